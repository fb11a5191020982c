"""A small made-up CMYK press profile, so that no vendor's file is needed."""

from __future__ import annotations

import functools
import itertools
import struct
import warnings

import numpy as np
from headshot.imaging.icc import _assemble, _text, _xyz
from skimage.color import lab2rgb, rgb2lab


def _lut8(inputs: int, outputs: int, grid: int, table: np.ndarray) -> bytes:
    """An ICC lut8Type with straight curves; table uint8 [grid ** inputs, outputs]."""
    unit = np.eye(3).ravel()
    curve = bytes(range(256))
    return (
        struct.pack(">4s4xBBBx", b"mft1", inputs, outputs, grid)
        + b"".join(struct.pack(">i", round(v * 65536)) for v in unit)
        + curve * inputs
        + table.astype(np.uint8).tobytes()
        + curve * outputs
    )


def _lab_bytes(lab: np.ndarray) -> np.ndarray:
    scaled = np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], axis=1)
    return np.rint(np.clip(scaled, 0, 255))


@functools.cache
def press_profile() -> bytes:
    """Ink that multiplies light, with the black replacing the grey of the colours."""
    ink = np.array(list(itertools.product(np.linspace(0, 1, 5), repeat=4)))
    rgb = (1 - ink[:, :3]) * (1 - ink[:, 3:])
    to_lab = _lab_bytes(rgb2lab(rgb[None])[0])

    levels = np.linspace(0, 255, 17)
    lab = np.array(list(itertools.product(levels, repeat=3)))
    lab = np.stack([lab[:, 0] / 2.55, lab[:, 1] - 128, lab[:, 2] - 128], axis=1)
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # corners of the grid are no real colours
        rgb = np.clip(np.nan_to_num(lab2rgb(lab[None])[0]), 0, 1)
    black = 1 - rgb.max(axis=1, keepdims=True)
    colours = (1 - rgb - black) / np.maximum(1 - black, 1e-6)
    to_ink = np.rint(np.hstack([colours, black]) * 255)

    a2b, b2a = _lut8(4, 3, 5, to_lab), _lut8(3, 4, 17, to_ink)
    tags = [
        (b"desc", _text("Made-up press")),
        (b"cprt", _text("CC0")),
        (b"wtpt", _xyz(np.array([0.9642, 1.0, 0.8249]))),
        (b"A2B0", a2b),
        (b"B2A0", b2a),
    ]
    return _assemble(tags, b"prtr", b"CMYK")
