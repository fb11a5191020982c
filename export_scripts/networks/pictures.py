"""Work on pictures with their channels last, as they arrive, without rewriting them.

OpenVINO's convolutions want the channels last as well: a picture that is permuted for one
convolution stays where it is. A pooling wants blocks of 16 channels and makes 16 of three, and what
is permuted for two layers is rewritten, and back again for the convolution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# So many pairs of a row and the pairs below them are one row of the product that averages them.
PAIRS = 8


def _averaging() -> Tensor:
    weights = torch.zeros(2, PAIRS, 2, 3, PAIRS, 3)  # row, pair, pixel, channel; to pair, channel
    for pair in range(PAIRS):
        for channel in range(3):
            weights[:, pair, :, channel, pair, channel] = 0.25
    return weights.reshape(12 * PAIRS, 3 * PAIRS)


_AVERAGING = _averaging()


def halved(picture: Tensor) -> Tensor:
    """Average 2x2 pixels: [B,H,W,3], W a multiple of 2 PAIRS, to [B,H/2,W/2,3].

    By a matrix product, mostly with zeros: still a quarter of what a pooling and its layouts take.
    """
    height, width = picture.shape[1:3]
    rows = picture.reshape(-1, 2, width // (2 * PAIRS), 6 * PAIRS).transpose(1, 2)
    means = torch.matmul(rows.reshape(-1, 12 * PAIRS), _AVERAGING)
    return means.reshape(-1, height // 2, width // 2, 3)


def _between(block: int, side: int) -> Tensor:
    """Weights times 16 / (2 side) of bilinear interpolation from `block` to `side` pixels."""
    weights = torch.zeros(side, block)
    for to in range(side):
        # In units of 1 / (2 side), where every weight is a whole number.
        place = (2 * to + 1) * block - side
        left, right = divmod(place, 2 * side)
        if left < 0 or left + (right > 0) >= block:
            raise ValueError(f"{block} pixels are not enough to interpolate {side}")
        weights[to, left] = (2 * side - right) / 16
        if right:
            weights[to, left + 1] = right / 16
    return weights


class Shrink(nn.Module):
    """Bilinear interpolation of square pictures [B,S,S,C] to a smaller side, half-pixel centres.

    For sides whose ratio leaves blocks of pixels that need no neighbours: each is a product with
    the same small matrix. OpenVINO's own interpolation takes three times as long of few channels.
    The weights are exact in bfloat16, and their scale is set right afterwards.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size: int, side: int, channels: int) -> None:
        super().__init__()
        common = math.gcd(size, side)
        self.size, self.side, self.channels = size, side, channels
        self.block = size // common
        to = side // common
        weights = _between(self.block, to)
        # Blocks side by side are one, so that rows of the product are not too short.
        joined = torch.eye(2 if channels > 1 else 4)
        columns = torch.kron(joined, torch.kron(weights.T.contiguous(), torch.eye(channels)))
        self.scale = (16 / (2 * to)) ** 2
        self.register_buffer("rows", weights, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Map [B,S,S,C] to [B,side,side,C]."""
        tall = picture.reshape(-1, self.size // self.block, self.block, self.channels * self.size)
        rows = torch.matmul(self.rows, tall).reshape(-1, len(self.columns))
        means = torch.matmul(rows, self.columns) * self.scale
        return means.reshape(-1, self.side, self.side, self.channels)


def for_one_layer(picture: Tensor) -> Tensor:
    """Give a picture [B,H,W,C] of values in -1..1 to one layer of several readers, [B,C,H,W].

    The limit changes nothing: it makes the layer's picture a value of its own. OpenVINO (2026.4)
    reads a permuted picture in place, and of one that others read as well it gives the memory away
    when these have run: the layer would see something else.
    """
    return picture.clamp(-2.0, 2.0).permute(0, 3, 1, 2)
