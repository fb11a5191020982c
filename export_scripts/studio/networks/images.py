"""Image wrappers shared by the studio networks: uint8 on the wire, normalisation in the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImageInput(nn.Module):
    """uint8 RGB [B, H, W, 3] to normalised planes [B, 3, H, W].

    The arithmetic is float32 whatever the network's precision: 123.675 is not a bfloat16.

    Args:
        mean: subtracted, in levels 0..255, one for each channel as the network sees it.
        std: divided by, in levels.
        bgr: whether the network was trained on BGR.
    """

    def __init__(
        self,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.keep_float32 = True
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.bgr = bgr

    def forward(self, image: Tensor) -> Tensor:
        """Normalise, float32; the caller casts to the type that its network computes in."""
        x = image.permute(0, 3, 1, 2).float()
        if self.bgr:
            x = x.flip(1)
        return (x - self.mean) / self.std


def to_levels(image: Tensor) -> Tensor:
    """[B, C, H, W] in 0..1 to uint8 [B, H, W, C], clamped and rounded half to even."""
    levels = (image.float().clamp(0.0, 1.0) * 255.0).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1)


def dtype_of(module: nn.Module) -> torch.dtype:
    """Type of the first parameter: what a wrapper casts its inputs to."""
    return next(module.parameters()).dtype
