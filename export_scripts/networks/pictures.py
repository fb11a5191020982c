"""Work on pictures with their channels last, as they arrive, without rewriting them.

OpenVINO's convolutions want the channels last as well: a picture that is permuted for one
convolution stays where it is. A pooling wants blocks of 16 channels and makes 16 of three, and what
is permuted for two layers is rewritten, and back again for the convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

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


def for_one_layer(picture: Tensor) -> Tensor:
    """Give a picture [B,H,W,C] of values in -1..1 to one layer of several readers, [B,C,H,W].

    The limit changes nothing: it makes the layer's picture a value of its own. OpenVINO (2026.4)
    reads a permuted picture in place, and of one that others read as well it gives the memory away
    when these have run: the layer would see something else.
    """
    return picture.clamp(-2.0, 2.0).permute(0, 3, 1, 2)
