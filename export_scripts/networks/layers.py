"""Layers that several compact networks share."""

from __future__ import annotations

from torch import nn


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation without the batch counter, so that every saved tensor is a float."""
    layer = nn.BatchNorm2d(channels)
    layer.num_batches_tracked = None
    return layer


def convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, rectifier."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        batch_norm(channels_out),
        nn.ReLU(inplace=True),
    )
