"""Upscaler x4: a plain residual network at the low resolution over an exact bicubic skip.

All layers are 3x3 convolutions with zero padding at the photo's own resolution; the last one
makes 4 x 4 sub-pixels for each colour. The skip is bicubic interpolation (Keys 1981, a = -0.5,
as in MATLAB's imresize) written as one 5x5 convolution before the sub-pixel shuffle (Shi et
al. 2016): so the whole graph is translation invariant, and a tile with ``OVERLAP`` pixels of
margin gives the pixels of the whole image.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_NAMES = ["image"]
OUTPUT_NAMES = ["upscaled"]
DYNAMIC_AXES = {
    "image": {0: "batch", 1: "height", 2: "width"},
    "upscaled": {0: "batch", 1: "height_x4", 2: "width_x4"},
}
OPSET = 17
SCALE = 4
WIDTH = 32
BLOCKS = 5
# Receptive-field radius: the head, two layers a block, the joining layer and the tail.
OVERLAP = 2 * BLOCKS + 3


def _keys(distance: float) -> float:
    # Cubic convolution kernel, a = -0.5 (Keys, "Cubic convolution interpolation", 1981).
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x < 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def bicubic_kernel(scale: int = SCALE) -> Tensor:
    """Sub-pixel bicubic interpolation, [3 * scale**2, 3, 5, 5], colours kept apart."""
    taps = torch.tensor(
        [[_keys(i - 2 - ((p + 0.5) / scale - 0.5)) for i in range(5)] for p in range(scale)]
    )
    phases = torch.einsum("yi,xj->yxij", taps, taps).reshape(scale * scale, 5, 5)
    kernel = torch.zeros(3, scale * scale, 3, 5, 5)
    for colour in range(3):
        kernel[colour, :, colour] = phases
    return kernel.reshape(3 * scale * scale, 3, 5, 5)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out


class Upscaler(nn.Module):
    """RGB [N, 3, H, W] in 0..1 to RGB [N, 3, 4H, 4W], not clipped."""

    kernel: Tensor

    def __init__(self, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.join = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, 3 * SCALE**2, 3, padding=1)
        self.register_buffer("kernel", bicubic_kernel(), persistent=False)
        nn.init.normal_(self.tail.weight, std=1e-3)

    def detail(self, image: Tensor) -> Tensor:
        """What the network adds to the skip, before the shuffle: [N, 48, H, W]."""
        head = self.head(image - 0.5)
        out: Tensor = self.tail(F.relu(self.join(self.body(head)) + head))
        return out

    def combine(self, image: Tensor, detail: Tensor) -> Tensor:
        """Bicubic skip plus detail, [N, 3, 4H, 4W]."""
        skip = F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), self.kernel)
        return F.pixel_shuffle(skip + detail, SCALE)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return self.combine(image, self.detail(image))


class ServingModule(nn.Module):
    """The served graph: UINT8 [N, H, W, 3] to UINT8 [N, 4H, 4W, 3].

    Channels of the last layers are ordered (row, column, colour) of the sub-pixel instead of
    (colour, row, column), and become bytes before they find their places: moving bytes once takes
    a fifth of the time that moving floats and then planes of bytes does.

    Computed in bfloat16 the skip would be a quarter of a level too dark: its weights no longer sum
    to one. So it works on whole numbers, and its kernel is split in two that bfloat16 holds.
    """

    coarse_and_fine: Tensor

    def __init__(self, net: Upscaler) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)
        order = torch.arange(3 * SCALE**2).reshape(3, SCALE**2).T.flatten()
        with torch.no_grad():
            for tensor in (self.net.tail.weight, self.net.tail.bias):
                tensor.copy_(tensor[order])
        kernel = self.net.kernel[order]
        coarse = kernel.bfloat16().float()
        both = torch.cat([coarse, kernel - coarse], dim=1)
        self.register_buffer("coarse_and_fine", both, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        levels = image.permute(0, 3, 1, 2).float() - 128
        padded = F.pad(torch.cat([levels, levels], dim=1), (2, 2, 2, 2), mode="replicate")
        detail = self.net.detail((levels + 128) * (1 / 255)) * 255
        # The cast cuts off what is behind the point.
        values = F.conv2d(padded, self.coarse_and_fine) + detail + 128.5
        codes = torch.clamp(values, 0, 255.5).to(torch.uint8)
        batch, _, height, width = codes.shape
        cells = codes.reshape(batch, SCALE, 3 * SCALE, height, width).permute(0, 3, 1, 4, 2)
        return cells.reshape(batch, height * SCALE, width * SCALE, 3)


def build() -> Upscaler:
    """The network that is trained, with fresh weights."""
    return Upscaler()


def serving(net: nn.Module) -> ServingModule:
    """The served graph around a trained network; raises TypeError for another network."""
    if not isinstance(net, Upscaler):
        raise TypeError(f"expected Upscaler, got {type(net).__name__}")
    return ServingModule(net.eval())


def example_inputs(batch: int) -> tuple[Tensor, ...]:
    """Seeded inputs of the served graph: UINT8 [batch, 64, 64, 3]."""
    generator = torch.Generator().manual_seed(4)
    return (torch.randint(0, 256, (batch, 64, 64, 3), generator=generator, dtype=torch.uint8),)
