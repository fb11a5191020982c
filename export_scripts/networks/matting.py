"""Portrait matting in two resolutions: 512x512 photo to alpha.

A trunk looks at the photo at 320 and at 448 pixels and says what is person: an EfficientNet-Lite0
down to a thirty-second, which learnt on ImageNet what things are before it learnt people here, then
back up with gated skips and an LR-ASPP head (Howard et al., 2019). A shallow detail path works at
full resolution: the photo enters pixel-unshuffled by two and alpha leaves by a pixel shuffle, so
every pixel reaches the last layers, which is what fine hair needs (the split follows MODNet, Ke et
al., 2022). Layers, losses and training are this project's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export_scripts.networks.efficientnet_lite import MAPS, Encoder
from export_scripts.networks.layers import BatchNorm, convolution
from export_scripts.networks.pictures import Shrink, for_one_layer

CANVAS = 512
LOOKS = 320, 448
RISES = (16, 24, 40, 64)  # channels on the way up, at 1/2, 1/4, 1/8 and 1/16 of the trunk's photo
DEEPEST = 128  # at 1/32
SEMANTIC = RISES[0]
# What the trunk gives to the detail path, in pixels of the canvas.
SEMANTIC_STRIDE, MASK_STRIDE = 4, 2

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


class Lateral(nn.Module):
    """One map of the encoder, narrowed to the decoder's channels and brought to its scale."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), BatchNorm(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,channels,H,W] to [B,out,H,W]."""
        y: Tensor = self.body(x)
        return y


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
        self.features = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), BatchNorm(out))
        self.weights = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,channels,H,W] to [B,out,H,W]."""
        weights = torch.sigmoid(self.weights(x.mean((2, 3), keepdim=True)))
        return torch.relu(self.features(x)) * weights


class Trunk(nn.Module):
    """Where the person is: features at half of the trunk's resolution, mask logits at all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.lateral = nn.ModuleList(
            Lateral(channels, out) for channels, out in zip(MAPS, RISES, strict=False)
        )
        self.deepest = Deepest(MAPS[-1], DEEPEST)
        coarser = (*RISES[1:], DEEPEST)
        self.rise = nn.ModuleList(
            Rise(coarse, out) for coarse, out in zip(coarser, RISES, strict=True)
        )
        self.mask = nn.Conv2d(SEMANTIC, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,H,W] in -1..1 (sides multiples of 32) to [B,16,H/2,W/2], [B,1,H,W]."""
        *maps, deepest = self.encoder(image)
        x = self.deepest(deepest)
        for level in range(len(RISES) - 1, -1, -1):
            x = self.rise[level](x, self.lateral[level](maps[level]))
        return x, functional.pixel_shuffle(self.mask(x), 2)


def bilinear_cells() -> Tensor:
    """Bilinear interpolation to twice the size before its pixels are in place: kernel [4,1,3,3]."""
    line = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
    return torch.einsum("yi,xj->yxij", line, line).reshape(4, 1, 3, 3)


class Detail(nn.Module):
    """The edge: full-resolution alpha logits from the photo and the trunk's features."""

    between: Tensor

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
        self.register_buffer("between", bilinear_cells(), persistent=False)

    def forward(self, image: Tensor, semantic: Tensor, mask: Tensor) -> Tensor:
        """Map [B,3,H,W], [B,16,H/4,W/4], [B,1,H/2,W/2] to alpha logits [B,1,H,W]."""
        return functional.pixel_shuffle(self.cells(image, semantic, mask), MASK_STRIDE)

    def cells(self, image: Tensor, semantic: Tensor, mask: Tensor) -> Tensor:
        """The same before the pixels are put in place: [B,4,H/2,W/2]."""
        # The mask enters squashed: beyond +-4 the trunk is sure, and how sure does not matter.
        sure = torch.tanh(mask * 0.25)
        half = self.entry(torch.cat([functional.pixel_unshuffle(image, 2), sure], 1))
        return self.from_half(half, semantic, mask)

    def from_half(self, half: Tensor, semantic: Tensor, mask: Tensor) -> Tensor:
        """The same from the first layer's features [B,24,H/2,W/2] on."""
        x = self.coarse(torch.relu(self.quarter(half) + self.semantic(semantic)))
        up = functional.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest")
        change: Tensor = self.alpha(self.fine(half + up))
        padded = functional.pad(mask, (1, 1, 1, 1), mode="replicate")
        prior = functional.conv2d(padded, self.between)
        return prior.clamp(-8.0, 8.0) + change


class MattingNetwork(nn.Module):
    """Trunk and detail path together."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.detail = Detail()

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,512,512] in -1..1 to features [B,16,128,128] and mask logits [B,1,256,256].

        The mask is the mean of two looks, the first at the mirror image. The closer look knows
        edges better, the smaller one what belongs together; the features are the closer one's.
        """
        far, near = (_resized(image, side) for side in LOOKS)
        side = CANVAS // MASK_STRIDE
        first = _resized(self.trunk(far.flip(3))[1].flip(3), side)
        semantic, mask = self.trunk(near)
        mask = (first + _resized(mask, side)) / 2
        return _resized(semantic, CANVAS // SEMANTIC_STRIDE), mask

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B,3,512,512] in -1..1 to alpha logits [B,1,512,512], mask logits [B,1,256,256]."""
        semantic, mask = self.locate(image)
        return self.detail(image, semantic, mask), mask


def _resized(x: Tensor, side: int) -> Tensor:
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def _turned(x: Tensor, side: int) -> Tensor:
    """The mirror image of [B,side,side,C], by an index: OpenVINO flips one value at a time."""
    return x[:, :, torch.arange(side - 1, -1, -1)]


class Entry(nn.Module):
    """First layer of the detail path in two convolutions whose sum is its own.

    One reads the photo as it lies there, pairs of pixels with their channels last, every second
    row; the other the mask. Unshuffled and joined with the mask the photo would be written three
    times over before it is read.
    """

    def __init__(self, entry: nn.Sequential) -> None:
        super().__init__()
        layer, norm = entry[0], entry[1]
        if not isinstance(layer, nn.Conv2d) or not isinstance(norm, BatchNorm):
            raise TypeError(f"expected a convolution and its norm, got {entry}")
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = layer.weight.detach() * scale.detach().reshape(-1, 1, 1, 1)
        out = len(weight)
        # Channel c, row r and column k of 2x2 pixels, kernel y, x; to channel (k, c), row (y, r).
        photo = weight[:, :12].reshape(out, 3, 2, 2, 3, 3).permute(0, 3, 1, 4, 2, 5)
        self.photo = nn.Conv2d(6, out, (6, 3), (2, 1), (2, 1), bias=False)
        self.photo.weight.data = photo.reshape(out, 6, 6, 3).contiguous()
        self.mask = nn.Conv2d(1, out, 3, padding=1)
        self.mask.weight.data = weight[:, 12:].contiguous()
        if self.mask.bias is not None:
            self.mask.bias.data = (norm.bias - norm.running_mean * scale).detach()

    def forward(self, photo: Tensor, sure: Tensor) -> Tensor:
        """Map [B,H,W,3] and [B,1,H/2,W/2] to [B,24,H/2,W/2]."""
        pairs = photo.reshape(-1, CANVAS, CANVAS // 2, 6)
        return torch.relu(self.photo(for_one_layer(pairs)) + self.mask(sure))


class ServingModule(nn.Module):
    """image: uint8 [B,512,512,3] RGB -> alpha: uint8 [B,512,512,1], 255 = person."""

    def __init__(self, network: MattingNetwork) -> None:
        super().__init__()
        self.network = network
        self.entry = Entry(network.detail.entry)
        self.looks = nn.ModuleList(Shrink(CANVAS, side, 3) for side in LOOKS)
        self.masks = nn.ModuleList(Shrink(side, CANVAS // MASK_STRIDE, 1) for side in LOOKS)

    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`MattingNetwork.locate` of a photo with its channels last, [B,512,512,3]."""
        far, near = (look(x) for look in self.looks)
        mirrored = self.network.trunk(_turned(far, LOOKS[0]).permute(0, 3, 1, 2))[1]
        semantic, upright = self.network.trunk(near.permute(0, 3, 1, 2))
        first, second = (
            shrink(mask.permute(0, 2, 3, 1))
            for shrink, mask in zip(self.masks, (mirrored, upright), strict=True)
        )
        mask = (_turned(first, CANVAS // MASK_STRIDE) + second) / 2
        return _resized(semantic, CANVAS // SEMANTIC_STRIDE), mask.permute(0, 3, 1, 2)

    def forward(self, image: Tensor) -> Tensor:
        """Matte; shapes as in the class description."""
        x = image.float() * (1.0 / 127.5) - 1.0
        semantic, mask = self.locate(x)
        half = self.entry(x, torch.tanh(mask * 0.25))
        logits = self.network.detail.from_half(half, semantic, mask)
        # A sigmoid never quite reaches its ends: stretch it so that sure pixels are 0 and 255.
        alpha = torch.clamp((torch.sigmoid(logits) - 0.02) / 0.96, 0.0, 1.0)
        # The cast cuts off what is behind the point. Bytes are put in place, not floats.
        codes = (alpha * 255.0 + 0.5).to(torch.uint8)
        size = CANVAS // MASK_STRIDE
        cells = codes.reshape(-1, MASK_STRIDE, MASK_STRIDE, size, size).permute(0, 3, 1, 4, 2)
        return cells.reshape(-1, CANVAS, CANVAS, 1)


def build() -> nn.Module:
    """Return the training network with fresh weights."""
    return MattingNetwork()


def serving(network: nn.Module) -> nn.Module:
    """Wrap a trained network for export; raises TypeError for another network."""
    if not isinstance(network, MattingNetwork):
        raise TypeError(f"expected MattingNetwork, got {type(network).__name__}")
    return ServingModule(network.eval()).eval()


# Ellipses from back to front: centre, radii (in heads from the face's middle), colour.
_DRAWING = (
    (0.0, 2.3, 1.9, 1.2, (40, 52, 84)),
    (0.0, 0.9, 0.45, 0.9, (190, 145, 120)),
    (0.0, -0.25, 0.95, 1.15, (45, 32, 26)),
    (0.0, 0.0, 0.78, 1.05, (214, 168, 140)),
    (-0.3, -0.1, 0.14, 0.07, (60, 40, 35)),
    (0.3, -0.1, 0.14, 0.07, (60, 40, 35)),
    (-0.3, -0.28, 0.2, 0.04, (70, 50, 40)),
    (0.3, -0.28, 0.2, 0.04, (70, 50, 40)),
    (0.0, 0.2, 0.1, 0.16, (190, 140, 115)),
    (0.0, 0.5, 0.28, 0.09, (170, 80, 80)),
)


def example_inputs(batch: int) -> tuple[Tensor, ...]:
    """Return inputs of the serving module: a drawn head and shoulders of another size in each row.

    Noise would not do: its alpha is nearly zero everywhere, and the last digit is all of it. Nor
    would a sketch: the network must be as sure of its person as it is of people in photos.
    """
    y, x = torch.meshgrid(torch.arange(CANVAS), torch.arange(CANVAS), indexing="ij")
    rows = []
    for row in range(batch):
        size = 90.0 + 40.0 * (row % 3)
        u, v = (x - 256) / size, (y - 200) / size
        picture = torch.stack([90 + x / 16, 110 + y / 16, 140 - x / 16], -1)
        for centre_x, centre_y, across, down, colour in _DRAWING:
            from_centre = ((u - centre_x) / across) ** 2 + ((v - centre_y) / down) ** 2
            light = 1.15 - 0.35 * from_centre.clamp(0, 1) - 0.12 * (u - centre_x)
            shaded = torch.tensor(colour, dtype=picture.dtype) * light[..., None]
            picture = torch.where((from_centre < 1)[..., None], shaded, picture)
        rows.append(picture.clamp(0, 255).to(torch.uint8))
    return (torch.stack(rows),)
