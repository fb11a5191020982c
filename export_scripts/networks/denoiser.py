"""Denoiser: a conditional few-step flow from the reference photo to its restoration.

State of the flow: ``x_t = ref + (s - t) * r`` for a start at strength ``s`` (for s = 1 the straight
path ``(1 - t) * x0 + t * ref`` of rectified flow, Liu et al. 2023), ``r = x0 - ref``. On a straight
path every moment points at the same end: the U-Net predicts ``r``, and the served graph returns the
velocity ``v = (x_t - x0_t) / t`` towards ``x0_t = x_t + t * r``, kept within the photo's range. No
noise is injected: given a noised state as well, a network of this size passes on some of the noise
(1 to 4 dB worse).

Each quarter of the flow looks at the photo from another side (as it is, and mirrored in three ways,
moved by half a block), so four Euler steps end at ``ref + s * mean(r)``: the mean of four opinions
is nearer to the truth than one of them (0.1 dB), most of all where one of them does harm.

Besides a free residual the network weighs, pixel by pixel, what two Gaussian blurs would change,
and block by block what four blurs along a line would change in luminance. How much to smooth, or,
with a negative weight, to sharpen, and along which direction, is then a question of a gate, which a
network of this size learns at once.

The residual is a function of the photo and the identity alone, not of the noised state: given the
state as well, a network of this size passes on some of the injected noise (1 to 4 dB worse).

The U-Net works on 4x4 blocks of pixels (48 channels a photo), the grid halved twice. Identity acts
through FiLM (Perez et al. 2018). There is no normalisation layer: rows of a batch cannot see each
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_NAMES = ["sample", "timestep", "identity", "reference"]
OUTPUT_NAMES = ["prediction"]
DYNAMIC_AXES = {name: {0: "batch"} for name in [*INPUT_NAMES, *OUTPUT_NAMES]}
OPSET = 17
# Rounding by hand (operands and results of convolutions) gives 1e-3, see `bf16_error`.
TOLERANCE = {"bf16": 5e-3}
CANVAS = 640
LATENT_FACTOR = 8
IDENTITY = 128
VIEWS = 4
SHIFT = 2  # pixels, half a block of the network
BLOCK = 4
WIDTHS = (64, 96, 128)
CONDITION = 128
# Residuals are about a tenth of the photo's range: the last layer works in that unit.
RESIDUAL_UNIT = 0.1
HALF_RANGE = 127.5  # bytes from the middle of the photo's range to its end
SMOOTHINGS = (0.8, 1.8)  # pixels
DIRECTIONS = 4  # of the blurs along a line, every 45 degrees
LINE = (2.2, 0.6)  # their standard deviations along and across, pixels
LUMA = (0.299, 0.587, 0.114)


def smoothing_kernel(sigma: float) -> Tensor:
    """What a Gaussian blur changes, as a convolution of 4x4 blocks: [48, 48, 3, 3].

    The blur reaches one block far (4 pixels) in each direction; each colour is by itself.
    """
    reach = torch.arange(-BLOCK, BLOCK + 1)
    line = torch.exp(-0.5 * (reach / sigma) ** 2)
    line = line / line.sum()
    # taps[d, b, e]: weight of pixel e of block b - 1 in the result at pixel d of block 0.
    taps = torch.zeros(BLOCK, 3, BLOCK)
    for target in range(BLOCK):
        for block in range(3):
            for source in range(BLOCK):
                distance = (block - 1) * BLOCK + source - target
                if abs(distance) <= BLOCK:
                    taps[target, block, source] = line[distance + BLOCK]
    plane = torch.einsum("yaj,xbk->yxjkab", taps, taps).reshape(BLOCK**2, BLOCK**2, 3, 3)
    plane[:, :, 1, 1] -= torch.eye(BLOCK**2)
    kernel = torch.zeros(3, BLOCK**2, 3, BLOCK**2, 3, 3)
    for colour in range(3):
        kernel[colour, :, colour] = plane
    return kernel.reshape(3 * BLOCK**2, 3 * BLOCK**2, 3, 3)


def line_kernel(direction: int) -> Tensor:
    """What a blur along a line changes in one plane: [16, 16, 3, 3], 4x4 blocks in and out."""
    along, across = LINE
    angle = torch.tensor(direction * torch.pi / DIRECTIONS)
    reach = torch.arange(-BLOCK, BLOCK + 1)
    y, x = torch.meshgrid(reach, reach, indexing="ij")
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    blur = torch.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    change = blur / blur.sum()
    change[BLOCK, BLOCK] -= 1
    # A pixel's neighbours up to a block away, as pixels of the 3x3 blocks around its own.
    pixels = torch.zeros(BLOCK, BLOCK, 3 * BLOCK, 3 * BLOCK)
    for row in range(BLOCK):
        for column in range(BLOCK):
            window = np.s_[row : row + 2 * BLOCK + 1, column : column + 2 * BLOCK + 1]
            pixels[row, column][window] = change
    plane = pixels.reshape(BLOCK**2, 3, BLOCK, 3, BLOCK).permute(0, 2, 4, 1, 3)
    return plane.reshape(BLOCK**2, BLOCK**2, 3, 3)


class FilmBlock(nn.Module):
    """x + conv(relu(scale * conv(x) + shift)), scale and shift from the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(CONDITION, 2 * width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.normal_(self.second.weight, std=5e-3)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[N, C, h, w] and [N, CONDITION] to [N, C, h, w]."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = F.relu(self.first(x) * (1 + scale) + shift)
        out: Tensor = x + self.second(hidden)
        return out


def colour_kernels() -> dict[str, Tensor]:
    """What joins and parts the pixels of blocks, as 1x1 convolutions of channels (colour, pixel).

    ``means`` [3, 48, 1, 1] of each colour; ``detail`` [48, 48, 1, 1], a pixel less its block's mean
    (exact in bfloat16); ``luma`` [16, 48, 1, 1]; ``spread`` [64, 4, 1, 1], a line's gate for each
    of its pixels; ``join`` [48, 64, 1, 1], the sum over lines, the same in each colour.
    """
    pixels = BLOCK**2
    one, each, many = torch.eye(3), torch.eye(pixels), torch.eye(DIRECTIONS)
    means = torch.kron(one, torch.full((1, pixels), 1 / pixels))
    kernels = {
        "means": means,
        "detail": torch.eye(3 * pixels) - torch.kron(one, torch.full((pixels,) * 2, 1 / pixels)),
        "luma": torch.kron(torch.tensor([LUMA]), each),
        "spread": torch.kron(many, torch.ones(pixels, 1)),
        "join": torch.kron(torch.ones(3, DIRECTIONS), each),
    }
    return {name: kernel[:, :, None, None] for name, kernel in kernels.items()}


class Denoiser(nn.Module):
    """Residual of the restored photo from the photo and the identity.

    ``codes``: [N, 48, h, w], 4x4 pixel blocks of RGB, bytes less 128: whole numbers, which
    bfloat16 holds exactly; ``identity`` [N, 128], unit length or zeros where unknown. Returns
    [N, 48, h, w] for a photo in -1..1.

    All that is fixed is written as convolutions, so that no map changes its layout on the way.
    """

    smoothing: Tensor
    means: Tensor
    detail: Tensor
    luma: Tensor
    spread: Tensor
    join: Tensor
    lines: Tensor

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        fine, middle, coarse = widths
        channels = 3 * BLOCK * BLOCK
        self.identity = nn.Linear(IDENTITY, CONDITION)
        self.condition = nn.Linear(CONDITION, CONDITION)
        fixed = colour_kernels()
        fixed["lines"] = torch.cat([line_kernel(direction) for direction in range(DIRECTIONS)])
        fixed["smoothing"] = torch.cat([smoothing_kernel(sigma) for sigma in SMOOTHINGS])
        for name, kernel in fixed.items():
            # As the exported file holds them.
            self.register_buffer(name, kernel.half().float(), persistent=False)
        self.stem = nn.Conv2d(channels + 6, fine, 3, padding=1)
        self.encode_fine = FilmBlock(fine)
        self.down_fine = nn.Conv2d(fine, middle, 2, stride=2)
        self.encode_middle = FilmBlock(middle)
        self.down_middle = nn.Conv2d(middle, coarse, 2, stride=2)
        self.bottom = nn.ModuleList([FilmBlock(coarse), FilmBlock(coarse)])
        self.up_middle = nn.Conv2d(coarse, 4 * middle, 1)
        self.decode_middle = FilmBlock(middle)
        self.up_fine = nn.Conv2d(middle, 4 * fine, 1)
        self.decode_fine = FilmBlock(fine)
        # A free residual and a gate for each smoothing, of every pixel.
        self.head = nn.Conv2d(fine, channels * (1 + len(SMOOTHINGS)), 3, padding=1)
        self.line_gates = nn.Conv2d(fine, DIRECTIONS, 3, padding=1)
        nn.init.normal_(self.head.weight, std=2e-3)
        nn.init.zeros_(self.line_gates.weight)
        nn.init.zeros_(self.line_gates.bias)

    def forward(self, identity: Tensor, codes: Tensor) -> Tensor:
        """See the class."""
        condition = F.relu(self.condition(F.relu(self.identity(identity))))
        padded = F.pad(codes, (1, 1, 1, 1), mode="replicate")
        kernels = self.smoothing.chunk(len(SMOOTHINGS))
        smoothed = [F.conv2d(padded, kernel) for kernel in kernels]
        luma = F.conv2d(padded, self.luma)
        along = F.conv2d(luma, self.lines)
        # What matters is small beside the photo: block means and detail are told apart and
        # scaled, which also keeps their precision in bfloat16.
        means = (F.conv2d(codes, self.means) + 0.5) * (1 / HALF_RANGE)
        detail = F.conv2d(codes, self.detail) * (8 / HALF_RANGE)
        # Mean absolute change by the finest blur: how noisy, or how detailed, a block is.
        rough = F.conv2d(smoothed[0].abs(), self.means) * (16 / HALF_RANGE)
        fine = self.stem(torch.cat([detail, means, rough], dim=1))
        fine = self.encode_fine(fine, condition)
        middle = self.encode_middle(self.down_fine(fine), condition)
        coarse = self.down_middle(middle)
        for block in self.bottom:
            coarse = block(coarse, condition)
        middle = middle + F.pixel_shuffle(self.up_middle(coarse), 2)
        middle = self.decode_middle(middle, condition)
        fine = fine + F.pixel_shuffle(self.up_fine(middle), 2)
        hidden = F.relu(self.decode_fine(fine, condition))
        residual, *gates = self._heads(hidden)
        residual = residual * RESIDUAL_UNIT
        for gate, change in zip(gates, smoothed, strict=True):
            residual = residual + gate * change * (1 / HALF_RANGE)
        light = F.conv2d(self.line_gates(hidden), self.spread) * along * (1 / HALF_RANGE)
        residual = residual + F.conv2d(light, self.join)
        return residual

    def _heads(self, hidden: Tensor) -> list[Tensor]:
        parts = 1 + len(SMOOTHINGS)
        weights, biases = self.head.weight.chunk(parts), self.head.bias.chunk(parts)
        pairs = zip(weights, biases, strict=True)
        return [F.conv2d(hidden, weight, bias, padding=1) for weight, bias in pairs]


def blocks(photo: Tensor) -> Tensor:
    """A photo [N, 3, H, W] in -1..1 as the network reads it: [N, 48, H/4, W/4], bytes less 128."""
    return F.pixel_unshuffle((photo + 1) * HALF_RANGE - 128, BLOCK)


def view_of(timestep: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a moment of the flow sees the photo mirrored across and down, bool [N] each."""
    # The margin keeps 0.75, which four steps from 1 meet, in its quarter.
    quarter = ((1 - timestep) * VIEWS + 1e-3).floor().clamp(0, VIEWS - 1)
    down = quarter >= VIEWS / 2
    return quarter - down.float() * (VIEWS / 2) >= 1, down


def ways(mirrored: Tensor, moved: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """Where a view reads each place of an axis of the photo, and the way back, int64 [N, extent].

    ``mirrored`` and ``moved`` are bool [N]. Places beyond an edge are those at the edge.
    """
    turn, step, last = mirrored[:, None], moved[:, None].long() * SHIFT, extent - 1
    place = torch.arange(extent)
    there = (torch.where(turn, last - place, place) - step).clamp(0, last)
    back = (place + step).clamp(0, last)
    return there, torch.where(turn, last - back, back)


def places(rows: Tensor, columns: Tensor, colours: Tensor, cell: int) -> Tensor:
    """Where the pixels of cells of so many by so many are found, by channel (colour, row, column).

    ``rows`` [N, H] and ``columns`` [N, W] are what a row and a column add to the place, ``colours``
    [3] what a colour adds; int64 [N, 3 * cell^2 * H / cell * W / cell].
    """
    down = rows.reshape(rows.shape[0], 1, -1, cell).transpose(2, 3) + colours[:, None, None]
    down = down.reshape(rows.shape[0], 3 * cell, 1, -1, 1)
    across = columns.reshape(columns.shape[0], -1, cell).transpose(1, 2)[:, None, :, None]
    return (down + across).flatten(1)


class ServingModule(nn.Module):
    """The served graph: the velocity FP16 [N, 192, 80, 80] of a state.

    Inputs: sample FP16 [N, 192, 80, 80], timestep FP32 [N], identity FP32 [N, 128], reference
    UINT8 [N, 640, 640, 3]. One gather at either end sees the photo from its side and puts the
    pixels into blocks, and back.
    """

    def __init__(self, net: Denoiser) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, sample: Tensor, timestep: Tensor, identity: Tensor, reference: Tensor
    ) -> Tensor:
        """See the class."""
        across, down = view_of(timestep)
        # What is mirrored one way is moved along the other axis.
        y, y_back = ways(down, across, CANVAS)
        x, x_back = ways(across, down, CANVAS)
        grid, colours = CANVAS // BLOCK, torch.arange(3)
        seen = places(y * (3 * CANVAS), x * 3, colours, BLOCK)
        codes = torch.gather(reference.flatten(1), 1, seen).float() - 128
        residual = self.net(identity, codes.reshape(-1, 3 * BLOCK**2, grid, grid))
        plane = grid * grid
        rows = torch.remainder(y_back, BLOCK) * (BLOCK * plane) + y_back // BLOCK * grid
        columns = torch.remainder(x_back, BLOCK) * plane + x_back // BLOCK
        back = places(rows, columns, colours * (BLOCK**2 * plane), LATENT_FACTOR)
        state = sample.float()
        change = torch.gather(residual.flatten(1), 1, back).reshape(state.shape)
        time = torch.clamp(timestep, min=1e-3)[:, None, None, None]
        clean = state + time * change
        prediction: Tensor = (state - clean.clamp(-1, 1)) / time
        return prediction.to(torch.float16)


def build() -> Denoiser:
    """The network that is trained, with fresh weights."""
    return Denoiser()


def serving(net: nn.Module) -> ServingModule:
    """The served graph around a trained network; raises TypeError for another network."""
    if not isinstance(net, Denoiser):
        raise TypeError(f"expected Denoiser, got {type(net).__name__}")
    return ServingModule(net.eval())


def example_inputs(batch: int) -> tuple[Tensor, ...]:
    """Seeded inputs of the served graph, in the order of INPUT_NAMES."""
    generator = torch.Generator().manual_seed(3)
    # Smooth photos, as the state of a real flow: uniform noise is nothing the network knows.
    coarse = torch.rand(batch, 3, 10, 10, generator=generator) * 255
    photo = F.interpolate(coarse, size=(CANVAS, CANVAS), mode="bilinear").round()
    reference = photo.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    timestep = torch.linspace(1.0, 0.25, batch) if batch > 1 else torch.ones(1)
    # A flow that has taken off some of the light, as a residual of one sign would.
    state = photo / 127.5 - 1
    state = state - (1 - timestep)[:, None, None, None] * 0.03 * (state + 1)
    sample = F.pixel_unshuffle(state, LATENT_FACTOR).to(torch.float16)
    identity = F.normalize(torch.randn(batch, IDENTITY, generator=generator), dim=1)
    return sample, timestep, identity, reference


def bf16_error(
    outputs: Sequence[NDArray[np.floating]], references: Sequence[NDArray[np.floating]]
) -> float:
    """Return the root mean square of what bfloat16 changes in the velocity.

    Not in parts of the velocity, which is next to nothing for a photo that needs no restoring: the
    state's range is [-1, 1], so 0.01 is 1.3 levels of 255.
    """
    (output,), (reference,) = outputs, references
    value = float(np.sqrt(np.mean((output.astype(np.float64) - reference) ** 2)))
    return value if math.isfinite(value) else math.inf
