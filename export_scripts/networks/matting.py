"""Portrait matting in two resolutions: 512x512 photo to alpha.

A trunk looks at the photo at 256 pixels, and again at 384, and says what is person: inverted
bottlenecks with squeeze-and-excitation down to 16x16, then back up with gated skips (MobileNetV3,
Howard et al., 2019, and its LR-ASPP head). Its seams have the teacher's sizes, so that every block
can learn alone from the teacher's map before it (see training/matting.py). A shallow detail path
works at full resolution: the photo enters pixel-unshuffled by two and alpha leaves by a pixel
shuffle, so every pixel reaches the last layers, which is what fine hair needs (the split follows
MODNet, Ke et al., 2022). Layers, losses and training are this project's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export_scripts.networks.layers import BatchNorm, convolution

CANVAS = 512
TRUNK = 256
CLOSER = 384
SEAMS = (16, 16, 24, 32)  # channels between the stages, at 128, 64, 32 and 16 pixels
SEMANTIC = SEAMS[0]
SEMANTIC_STRIDE = 4  # in pixels of the canvas
MASK_STRIDE = CANVAS // TRUNK

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


class Excitation(nn.Module):
    """Weigh channels by what the whole photo says (squeeze-and-excitation, Hu et al., 2018)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,C,H,W] to channel weights [B,C,1,1] in 0..1."""
        return torch.sigmoid(self.weights(x.mean((2, 3), keepdim=True)))


class Bottleneck(nn.Module):
    """Widen, look around, weigh, narrow; added to its input where the shape stays the same."""

    def __init__(
        self, channels: int, wide: int, out: int, *, stride: int = 1, dense: bool = False
    ) -> None:
        super().__init__()
        if dense:  # few channels: one dense 3x3 costs little and learns faster than two layers
            layers: list[nn.Module] = [
                nn.Conv2d(channels, wide, 3, stride, 1, bias=False),
                BatchNorm(wide),
                nn.Hardswish(),
            ]
        else:
            layers = [
                nn.Conv2d(channels, wide, 1, bias=False),
                BatchNorm(wide),
                nn.Hardswish(),
                nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False),
                BatchNorm(wide),
                nn.Hardswish(),
            ]
        self.body = nn.Sequential(*layers)
        self.excitation = Excitation(wide, max(8, wide // 4))
        self.narrow = nn.Conv2d(wide, out, 1)
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,channels,H,W] to [B,out,H/stride,W/stride]."""
        wide = self.body(x)
        y: Tensor = self.narrow(wide * self.excitation(wide))
        return x + y if self.shortcut else y


class Rise(nn.Module):
    """Bring a coarse map up one level and add the encoder's map of that level, gated."""

    def __init__(self, coarse: int, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(coarse, channels, 1)
        self.gate = Excitation(channels, channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.look = convolution(channels, channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Join [B,coarse,H/2,W/2] and [B,channels,H,W] to [B,channels,H,W]."""
        up = functional.interpolate(
            self.narrow(coarse), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        x = torch.relu(self.mix(up + skip * self.gate(up + skip)))
        y: Tensor = x + self.look(x)
        return y


class Deepest(nn.Module):
    """Features of the coarsest level, weighed by what the whole photo says (LR-ASPP)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(channels, out, 1)
        self.weights = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,channels,H,W] to [B,out,H,W]."""
        weights = torch.sigmoid(self.weights(x.mean((2, 3), keepdim=True)))
        return torch.relu(self.features(x)) * weights


class Trunk(nn.Module):
    """Where the person is: features at half of the trunk's resolution, mask logits at all of it."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = SEAMS
        self.down128 = nn.Sequential(nn.Conv2d(3, a, 3, 2, 1), nn.Hardswish())
        self.down64 = Bottleneck(a, 48, b, stride=2, dense=True)
        self.down32 = nn.Sequential(
            Bottleneck(b, 96, c, stride=2, dense=True), Bottleneck(c, 96, c, dense=True)
        )
        self.down16 = nn.Sequential(
            Bottleneck(c, 192, d, stride=2), *(Bottleneck(d, 224, d) for _ in range(4))
        )
        self.deepest = Deepest(d, 160)
        self.rise32 = Rise(160, c)
        self.rise64 = Rise(c, b)
        self.rise128 = Rise(b, a)
        self.mask = nn.Conv2d(a, 4, 1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Map [B,3,256,256] in -1..1 to maps of 128, 64, 32 and 16 pixels."""
        maps = [self.down128(image)]
        for stage in (self.down64, self.down32, self.down16):
            maps.append(stage(maps[-1]))
        return maps

    def logits(self, fine: Tensor) -> Tensor:
        """Map the finest decoded map [B,16,128,128] to mask logits [B,1,256,256]."""
        return functional.pixel_shuffle(self.mask(fine), 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,H,W] in -1..1 (sides multiples of 16) to [B,16,H/2,W/2], [B,1,H,W]."""
        m128, m64, m32, m16 = self.encode(image)
        x = self.rise32(self.deepest(m16), m32)
        x = self.rise128(self.rise64(x, m64), m128)
        return x, self.logits(x)


class Detail(nn.Module):
    """The edge: full-resolution alpha logits from the photo and the trunk's features."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = 24, 48
        self.entry = convolution(12 + 1, half)
        self.quarter = convolution(half, quarter, 2)
        self.semantic = nn.Conv2d(SEMANTIC, quarter, 1)
        self.coarse = Residual(quarter)
        self.narrow = nn.Conv2d(quarter, half, 1)
        self.fine = Residual(half)
        self.alpha = nn.Conv2d(half, 4, 3, padding=1)

    def forward(self, image: Tensor, semantic: Tensor, mask: Tensor) -> Tensor:
        """Map [B,3,H,W], [B,16,H/4,W/4], [B,1,H/2,W/2] to alpha logits [B,1,H,W]."""
        # The mask enters squashed: beyond +-4 the trunk is sure, and how sure does not matter.
        sure = torch.tanh(mask * 0.25)
        half = self.entry(torch.cat([functional.pixel_unshuffle(image, 2), sure], 1))
        x = self.coarse(torch.relu(self.quarter(half) + self.semantic(semantic)))
        up = functional.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest")
        change = functional.pixel_shuffle(self.alpha(self.fine(half + up)), 2)
        prior = functional.interpolate(
            mask, scale_factor=float(MASK_STRIDE), mode="bilinear", align_corners=False
        )
        return prior.clamp(-8.0, 8.0) + change


class MattingNetwork(nn.Module):
    """Trunk and detail path together."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.detail = Detail()

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,512,512] in -1..1 to features [B,16,128,128] and mask logits [B,1,256,256].

        The mask is the mean of four looks of the trunk: at TRUNK and at CLOSER pixels, each with
        the mirror image. The closer look knows edges better, the smaller one what belongs together.
        """
        small = functional.avg_pool2d(image, CANVAS // TRUNK)
        semantic, mask = self.trunk(small)
        mirrored = self.trunk(small.flip(3))[1].flip(3)
        closer = _resized(image, CLOSER)
        near = self.trunk(closer)[1] + self.trunk(closer.flip(3))[1].flip(3)
        return semantic, (mask + mirrored + _resized(near, TRUNK)) / 4

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,512,512] in -1..1 to alpha logits [B,1,512,512], mask logits [B,1,256,256]."""
        semantic, mask = self.locate(image)
        return self.detail(image, semantic, mask), mask


def _resized(x: Tensor, side: int) -> Tensor:
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


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
        alpha = torch.clamp((torch.sigmoid(logits) - 0.02) / 0.96, 0.0, 1.0)
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
