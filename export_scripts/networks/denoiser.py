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

What was done to a photo was done to all of it: one shake, one focus, one sensor, one JPEG quality.
The means of the network's own features over the whole photo (the scene) therefore steer the layers
that follow, through the same FiLM (Perez et al. 2018) as the identity.

The residual is a function of the photo and the identity alone, not of the noised state: given the
state as well, a network of this size passes on some of the injected noise (1 to 4 dB worse).

The U-Net works on 4x4 blocks of pixels (48 channels a photo), the grid halved twice. There is no
normalisation layer: rows of a batch cannot see each other.
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
WIDTHS = (96, 128, 192)
BOTTOM = 3  # blocks on the coarse grid; the middle grid has one on the way down and one up
TOP = 2  # blocks on the fine grid, on the way up
CONDITION = 128
# Residuals are about a tenth of the photo's range: the last layer works in that unit.
RESIDUAL_UNIT = 0.1
HALF_RANGE = 127.5  # bytes from the middle of the photo's range to its end


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
    """What parts the pixels of blocks, as 1x1 convolutions of channels (colour, pixel).

    ``means`` [3, 48, 1, 1] of each colour; ``detail`` [48, 48, 1, 1], a pixel less its block's mean
    (exact in bfloat16).
    """
    pixels = BLOCK**2
    colours = torch.eye(3)
    mean = torch.full((1, pixels), 1 / pixels)
    kernels = {
        "means": torch.kron(colours, mean),
        "detail": torch.eye(3 * pixels) - torch.kron(colours, mean.expand(pixels, -1).contiguous()),
    }
    return {name: kernel[:, :, None, None] for name, kernel in kernels.items()}


class Denoiser(nn.Module):
    """Residual of the restored photo from the photo and the identity.

    ``codes``: [N, 48, h, w], 4x4 pixel blocks of RGB, bytes less 128: whole numbers, which
    bfloat16 holds exactly; ``identity`` [N, 128], unit length or zeros where unknown. Returns
    [N, 48, h, w] for a photo in -1..1.
    """

    means: Tensor
    detail: Tensor

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        fine, middle, coarse = widths
        channels = 3 * BLOCK * BLOCK
        self.identity = nn.Linear(IDENTITY, CONDITION)
        self.condition = nn.Linear(CONDITION, CONDITION)
        self.scene = nn.Linear(middle + coarse, CONDITION)
        for name, kernel in colour_kernels().items():
            self.register_buffer(name, kernel, persistent=False)
        self.stem = nn.Conv2d(channels + 3, fine, 3, padding=1)
        self.down_fine = nn.Conv2d(fine, middle, 2, stride=2)
        self.encode_middle = FilmBlock(middle)
        self.down_middle = nn.Conv2d(middle, coarse, 2, stride=2)
        self.bottom = nn.ModuleList(FilmBlock(coarse) for _ in range(BOTTOM))
        self.up_middle = nn.Conv2d(coarse, 4 * middle, 1)
        self.decode_middle = FilmBlock(middle)
        self.up_fine = nn.Conv2d(middle, 4 * fine, 1)
        self.top = nn.ModuleList(FilmBlock(fine) for _ in range(TOP))
        self.head = nn.Conv2d(fine, channels, 3, padding=1)
        nn.init.normal_(self.head.weight, std=2e-3)

    def forward(self, identity: Tensor, codes: Tensor) -> Tensor:
        """See the class."""
        condition = F.relu(self.condition(F.relu(self.identity(identity))))
        # What matters is small beside the photo: block means and detail are told apart and
        # scaled, which also keeps their precision in bfloat16.
        means = (F.conv2d(codes, self.means) + 0.5) * (1 / HALF_RANGE)
        detail = F.conv2d(codes, self.detail) * (8 / HALF_RANGE)
        fine = F.relu(self.stem(torch.cat([detail, means], dim=1)))
        middle = self.encode_middle(self.down_fine(fine), condition)
        coarse = self.bottom[0](self.down_middle(middle), condition)
        scene = torch.cat([F.relu(middle).mean((2, 3)), F.relu(coarse).mean((2, 3))], dim=1)
        condition = condition + F.relu(self.scene(scene))
        for block in self.bottom[1:]:
            coarse = block(coarse, condition)
        middle = middle + F.pixel_shuffle(self.up_middle(coarse), 2)
        middle = self.decode_middle(middle, condition)
        fine = fine + F.pixel_shuffle(self.up_fine(middle), 2)
        for block in self.top:
            fine = block(fine, condition)
        residual: Tensor = self.head(F.relu(fine)) * RESIDUAL_UNIT
        return residual


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
