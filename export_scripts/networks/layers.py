"""Layers that several compact networks share."""

from __future__ import annotations

from typing import Any

from torch import nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation without the batch counter, so that every saved tensor is a float."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        # The parent would invent a counter for weights that have none.
        nn.Module._load_from_state_dict(self, *arguments, **named)


def convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, rectifier."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        BatchNorm(channels_out),
        nn.ReLU(inplace=True),
    )
