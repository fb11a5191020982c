"""Matting wrappers: MODNet and BiRefNet exist as ONNX files; the graph around them is ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_scripts.studio.networks.images import to_levels

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
MODNET_SIDE = 512
BIREFNET_SIDE = 1024


class Alpha(nn.Module):
    """Network output [B, 1, H, W] to uint8 alpha [B, H, W, 1].

    Args:
        logits: whether the network stops before the sigmoid (BiRefNet) or not (MODNet).
    """

    def __init__(self, *, logits: bool) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, matte: Tensor) -> Tensor:
        """Finish the alpha."""
        return to_levels(torch.sigmoid(matte) if self.logits else matte)


def head_and_shoulders(side: int) -> Tensor:
    """Logits [side, side] of a head above shoulders: +8 inside, -8 outside, soft in between."""
    y, x = torch.meshgrid(
        torch.linspace(0, 1, side), torch.linspace(-0.5, 0.5, side), indexing="ij"
    )
    head = (x / 0.18) ** 2 + ((y - 0.42) / 0.26) ** 2
    shoulders = (x / 0.42) ** 2 + ((y - 1.02) / 0.36) ** 2
    return ((1 - torch.minimum(head, shoulders)) * 40).clamp(-8, 8)


class MattingShaped(nn.Module):
    """A random encoder-decoder with a matting network's interface: stands in for the files.

    What it learned is random, so a fixed head-and-shoulders shape is added to its logits: a
    pipeline that wants a person in the picture can then be run to its end.

    Args:
        side: side of the planes in pixels.
        logits: whether the output stops before the sigmoid.
    """

    def __init__(self, side: int, width: int = 8, *, logits: bool) -> None:
        super().__init__()
        self.logits = logits
        self.register_buffer("shape", head_and_shoulders(side).view(1, 1, side, side))
        self.down = nn.ModuleList(
            nn.Conv2d(3 if level == 0 else width, width, 3, 2, 1) for level in range(3)
        )
        self.up = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in range(3))
        self.head = nn.Conv2d(width, 1, 3, 1, 1)

    def forward(self, planes: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 1, H, W]."""
        x = planes
        for layer in self.down:
            x = torch.relu(layer(x))
        for layer in self.up:
            x = torch.relu(layer(F.interpolate(x, scale_factor=2, mode="nearest")))
        matte = self.head(x) + self.shape
        return matte if self.logits else matte.sigmoid()
