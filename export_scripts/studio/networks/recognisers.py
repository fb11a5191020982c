"""ArcFace-type encoders: iResNet (InsightFace's variant of ResNet; keys as in its checkpoints).

Deng et al., "ArcFace", CVPR 2019; improved residual units after Han et al., "Deep Pyramidal
Residual Networks", CVPR 2017: BN-conv-BN-PReLU-conv-BN, no activation after the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_scripts.studio.networks.images import ImageInput, dtype_of

LAYERS = {"r18": (2, 2, 2, 2), "r50": (3, 4, 14, 3), "r100": (3, 13, 30, 3)}
FACE_SIDE = 112
EMBEDDING = 512


class Unit(nn.Module):
    """One improved residual unit."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in, eps=1e-5)
        self.conv1 = nn.Conv2d(width_in, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=1e-5)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, eps=1e-5)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width, eps=1e-5)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit to [B, C, H, W]."""
        skip = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + skip


class IResNet(nn.Module):
    """iResNet trunk and embedding head.

    Args:
        layers: units in each of the four stages.
        width: channels of the first stage (64 in the public checkpoints).
        embedding: length of the embedding.
    """

    def __init__(
        self, layers: tuple[int, int, int, int], width: int = 64, embedding: int = EMBEDDING
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=1e-5)
        self.prelu = nn.PReLU(width)
        inside = width
        for number, units in enumerate(layers):
            outside = width << number
            stage = [Unit(inside, outside, 2)]
            stage += [Unit(outside, outside, 1) for _ in range(units - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
            inside = outside
        self.bn2 = nn.BatchNorm2d(inside, eps=1e-5)
        self.fc = nn.Linear(inside * 7 * 7, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 112, 112] in -1..1 to the raw embedding [B, D]."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(4):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


class FaceEncoder(nn.Module):
    """uint8 RGB face [B, 112, 112, 3] on the ArcFace template to a unit vector, float32 [B, D].

    Args:
        trunk: network from normalised planes to the raw embedding.
        arcface: True: (x - 127.5) / 127.5 (ArcFace, AuraFace); False: raw 0..255 (SFace).
    """

    def __init__(self, trunk: nn.Module, *, arcface: bool = True) -> None:
        super().__init__()
        offset, scale = (127.5, 127.5) if arcface else (0.0, 1.0)
        self.input = ImageInput((offset,) * 3, (scale,) * 3)
        self.trunk = trunk

    def forward(self, face: Tensor) -> Tensor:
        """Encode; the norm is taken in float32 whatever the trunk's precision."""
        return F.normalize(self.trunk(self.input(face).to(dtype_of(self.trunk))).float(), dim=1)
