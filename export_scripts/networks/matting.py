"""Portrait matting in two resolutions: 512x512 photo to alpha.

A trunk looks at the photo at 256 pixels and says what is person; it is deep and cheap there. A
shallow detail path works at full resolution: the photo enters pixel-unshuffled by two and alpha
leaves by a pixel shuffle, so every pixel reaches the last layers, which is what fine hair needs.
(The split follows MODNet, Ke et al., 2022; layers and training are this project's own.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export_scripts.networks.layers import BatchNorm, convolution

CANVAS = 512
TRUNK = 256
WIDTHS = (32, 64, 96, 160, 256)
DEPTHS = (0, 1, 1, 2, 2)
SEMANTIC = 64
SEMANTIC_STRIDE = 8  # in pixels of the canvas

# Logits are multiplied by this when served. The short training leaves places far from the person
# undecided (alpha 0.2 where it should be 0): 1.5 takes 9 to 17% off the mean error of held-out
# photos and adds 6 to 13% to the gradient error.
SHARPNESS = 1.5

INPUT_NAMES = ["image"]
OUTPUT_NAMES = ["alpha"]
DYNAMIC_AXES = {name: {0: "batch"} for name in (*INPUT_NAMES, *OUTPUT_NAMES)}
OPSET = 17
# Alpha is rounded to 8 bits: a last digit that differs can move a pixel by one level of 255.
TOLERANCE = {"onnx": 1e-2}


class Residual(nn.Module):
    """One 3x3 convolution added to its input (two around a shortcut would cost twice)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,C,H,W] to the same shape."""
        y: Tensor = x + self.body(x)
        return y


class Context(nn.Module):
    """Add what the whole photo says (its mean feature) to every place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,C,H,W] to the same shape."""
        y: Tensor = x + self.mix(x.mean((2, 3), keepdim=True))
        return y


class Merge(nn.Module):
    """Bring a coarse map up one level and join it with the encoder's map of that level."""

    def __init__(self, coarse: int, skip: int, out: int, depth: int = 1) -> None:
        super().__init__()
        self.coarse = nn.Sequential(nn.Conv2d(coarse, out, 1, bias=False), BatchNorm(out))
        self.skip = nn.Sequential(nn.Conv2d(skip, out, 1, bias=False), BatchNorm(out))
        self.blocks = nn.Sequential(*(Residual(out) for _ in range(depth)))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Join [B,Cc,H/2,W/2] and [B,Cs,H,W] to [B,out,H,W]."""
        up = functional.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        joined: Tensor = self.blocks(torch.relu(up + self.skip(skip)))
        return joined


class Trunk(nn.Module):
    """Where the person is: features and mask logits at a quarter of the trunk's resolution."""

    def __init__(self) -> None:
        super().__init__()
        stages = [convolution(12, WIDTHS[0])]
        for before, width, depth in zip(WIDTHS[:-1], WIDTHS[1:], DEPTHS[1:], strict=True):
            blocks = [Residual(width) for _ in range(depth)]
            stages.append(nn.Sequential(convolution(before, width, 2), *blocks))
        self.stages = nn.ModuleList(stages)
        self.context = Context(WIDTHS[-1])
        self.merge16 = Merge(256, 160, 128)
        self.merge8 = Merge(128, 96, 96)
        self.merge4 = Merge(96, 64, SEMANTIC)
        self.mask = nn.Conv2d(SEMANTIC, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,H,W] in -1..1 (sides multiples of 32) to [B,64,H/4,W/4], [B,1,H/4,W/4]."""
        x = functional.pixel_unshuffle(image, 2)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        _, quarter, eighth, sixteenth, last = features
        x = self.merge16(self.context(last), sixteenth)
        x = self.merge4(self.merge8(x, eighth), quarter)
        return x, self.mask(x)


class Detail(nn.Module):
    """The edge: full-resolution alpha logits from the photo and the trunk's features."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = convolution(12, 32)
        self.quarter = convolution(32, 48, 2)
        self.merge4 = Merge(SEMANTIC, 48, 48)
        self.merge2 = Merge(48, 32, 32)
        self.alpha = nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, image: Tensor, semantic: Tensor, mask: Tensor) -> Tensor:
        """Map [B,3,H,W], [B,64,H/8,W/8], [B,1,H/8,W/8] to alpha logits [B,1,H,W]."""
        half = self.entry(functional.pixel_unshuffle(image, 2))
        x = self.merge4(semantic, self.quarter(half))
        change = functional.pixel_shuffle(self.alpha(self.merge2(x, half)), 2)
        prior = functional.interpolate(
            mask, scale_factor=float(SEMANTIC_STRIDE), mode="bilinear", align_corners=False
        )
        return prior + change


class MattingNetwork(nn.Module):
    """Trunk and detail path together."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.detail = Detail()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,512,512] in -1..1 to alpha logits [B,1,512,512], mask logits [B,1,64,64]."""
        semantic, mask = self.trunk(functional.avg_pool2d(image, CANVAS // TRUNK))
        return self.detail(image, semantic, mask), mask


class ServingModule(nn.Module):
    """image: uint8 [B,512,512,3] RGB -> alpha: uint8 [B,512,512,1], 255 = person."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Matte; shapes as in the class description."""
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        logits, _ = self.network(x)
        # A sigmoid never quite reaches its ends: stretch it so that sure pixels are 0 and 255.
        alpha = torch.clamp((torch.sigmoid(logits * SHARPNESS) - 0.02) / 0.96, 0.0, 1.0)
        return torch.round(alpha * 255.0).to(torch.uint8).permute(0, 2, 3, 1)


def build() -> nn.Module:
    """Return the training network with fresh weights."""
    return MattingNetwork()


def serving(network: nn.Module) -> nn.Module:
    """Wrap a trained network for export."""
    return ServingModule(network.eval()).eval()


def example_inputs(batch: int) -> tuple[Tensor, ...]:
    """Return inputs of the serving module: a drawn head and shoulders of another size in each row.

    Noise would not do: its alpha is nearly zero everywhere, and the last digit is all of it.
    """
    y, x = torch.meshgrid(torch.arange(CANVAS), torch.arange(CANVAS), indexing="ij")
    rows = []
    for row in range(batch):
        size = 90.0 + 40.0 * (row % 3)
        u, v = (x - 256) / size, (y - 200) / size
        picture = torch.stack([90 + x / 16, 110 + y / 16, 140 - x / 16], -1)
        parts = (  # centre, radii, colour
            (0.0, 2.3, 1.9, 1.2, (40, 52, 84)),
            (0.0, -0.25, 0.95, 1.15, (45, 32, 26)),
            (0.0, 0.0, 0.78, 1.05, (214, 168, 140)),
        )
        for centre_x, centre_y, across, down, colour in parts:
            inside = ((u - centre_x) / across) ** 2 + ((v - centre_y) / down) ** 2 < 1
            picture[inside] = torch.tensor(colour, dtype=picture.dtype)
        rows.append(picture.clamp(0, 255).to(torch.uint8))
    return (torch.stack(rows),)
