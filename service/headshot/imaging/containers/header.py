"""The facts of a photo that are known before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["jpeg", "png", "webp", "heic", "avif", "tiff"]


@dataclass(frozen=True)
class Header:
    """What the container says.

    Attributes:
        format: container and codec.
        width: stored width in pixels, before orientation.
        height: stored height in pixels.
        orientation: EXIF orientation 1..8 that makes the stored pixels upright.
        bit_depth: bits per sample.
        icc: embedded profile, or None.
        cicp: (colour primaries, transfer characteristics) of ITU-T H.273 where the file gives
            them, or None.
        data: the bytes for the decoder.
        adobe_rgb: the metadata say that RGB means Adobe RGB (camera JPEG without a profile).
        gamma: exponent from coded values to light where the file gives one other than sRGB's and no
            profile (PNG), or None.
        cmyk: four ink channels (JPEG, TIFF).
        inverted: CMYK stored as 255 - ink (Adobe JPEG).
        white_is_zero: grey stored as a negative (TIFF).
        notes: codes of what was set aside while reading.
    """

    format: Format
    width: int
    height: int
    data: bytes
    orientation: int = 1
    bit_depth: int = 8
    icc: bytes | None = None
    cicp: tuple[int, int] | None = None
    adobe_rgb: bool = False
    gamma: float | None = None
    cmyk: bool = False
    inverted: bool = False
    white_is_zero: bool = False
    notes: tuple[str, ...] = ()
