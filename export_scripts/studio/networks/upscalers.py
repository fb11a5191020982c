"""Real-ESRGAN's two networks, keyed like the public checkpoints.

SRVGGNetCompact and RRDBNet as published with Wang et al., "Real-ESRGAN", ICCVW 2021 (RRDB: Wang
et al., "ESRGAN", ECCVW 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_scripts.studio.networks.images import dtype_of, to_levels

SCALE = 4


class Srvgg(nn.Module):
    """Plain convolutions at the low resolution, residual on the nearest upsampling.

    Args:
        width: channels (64 in realesr-general-x4v3).
        depth: hidden convolutions (32 there).
    """

    def __init__(self, width: int = 64, depth: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1), nn.PReLU(width)]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width)]
        layers.append(nn.Conv2d(width, 3 * SCALE * SCALE, 3, 1, 1))
        self.body = nn.ModuleList(layers)
        self.overlap = depth + 2

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in 0..1 to [B, 3, 4H, 4W]."""
        y = x
        for layer in self.body:
            y = layer(y)
        return F.pixel_shuffle(y, SCALE) + F.interpolate(x, scale_factor=SCALE, mode="nearest")


class DenseBlock(nn.Module):
    """Five densely connected convolutions, residual scaled by 0.2."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(4):
            self.add_module(
                f"conv{number + 1}", nn.Conv2d(width + number * growth, growth, 3, 1, 1)
            )
        self.conv5 = nn.Conv2d(width + 4 * growth, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [B, C, H, W]."""
        features = [x]
        for number in range(4):
            layer = self.get_submodule(f"conv{number + 1}")
            features.append(F.leaky_relu(layer(torch.cat(features, 1)), 0.2))
        return self.conv5(torch.cat(features, 1)) * 0.2 + x


class Rrdb(nn.Module):
    """Residual in residual dense block."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [B, C, H, W]."""
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class RrdbNet(nn.Module):
    """ESRGAN's generator, x4.

    Args:
        width: channels (64 in RealESRGAN_x4plus).
        blocks: RRDB blocks (23 there).
        growth: channels that each dense layer adds (32 there).
    """

    def __init__(self, width: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.Sequential(*[Rrdb(width, growth) for _ in range(blocks)])
        self.conv_body = nn.Conv2d(width, width, 3, 1, 1)
        self.conv_up1 = nn.Conv2d(width, width, 3, 1, 1)
        self.conv_up2 = nn.Conv2d(width, width, 3, 1, 1)
        self.conv_hr = nn.Conv2d(width, width, 3, 1, 1)
        self.conv_last = nn.Conv2d(width, 3, 3, 1, 1)
        # The receptive field of 23 blocks is hundreds of pixels; Real-ESRGAN's own tiling takes 10,
        # and past 32 the seam is below one level.
        self.overlap = 32

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in 0..1 to [B, 3, 4H, 4W]."""
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for layer in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(layer(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


class Upscaler(nn.Module):
    """uint8 RGB [B, H, W, 3] to uint8 RGB [B, 4H, 4W, 3]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Upscale."""
        planes = image.permute(0, 3, 1, 2).to(dtype_of(self)) / 255.0
        return to_levels(self.network(planes))
