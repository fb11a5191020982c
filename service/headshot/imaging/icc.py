"""Colour profiles: building the standard ones, and bringing photos to sRGB.

The RGB profiles are computed here from their published primaries and curves (ICC.1:2022, matrix
and parametric curve, version 4.3), so that no foreign profile file has to be shipped and the bytes
never change; conversions run in Little CMS.
"""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_D50: Final = np.array([0.9642, 1.0, 0.8249])
_D65_XY: Final = (0.3127, 0.3290)
_BRADFORD: Final = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_SRGB_CURVE: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_FLAGS: Final = ImageCms.Flags.BLACKPOINTCOMPENSATION
_INTENT: Final = ImageCms.Intent.RELATIVE_COLORIMETRIC

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
BT709: Final[Primaries] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3: Final[Primaries] = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
BT2020: Final[Primaries] = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
ADOBE_RGB: Final[Primaries] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


class ProfileError(ValueError):
    """A profile is damaged, or for other colour channels than the picture has."""


def matrix_profile(
    description: str, primaries: Primaries, curve: tuple[float, ...] = _SRGB_CURVE
) -> bytes:
    """An RGB display profile with a D65 white.

    Args:
        description: shown by programs; ASCII.
        primaries: CIE xy of red, green and blue.
        curve: (gamma,) or the (g, a, b, c, d) of ICC parametric curve type 3.

    Returns:
        the profile, the same bytes every time.
    """
    columns = _adaptation() @ _rgb_to_xyz(primaries)
    parametric = struct.pack(">4s4xHxx", b"para", 0 if len(curve) == 1 else 3) + b"".join(
        map(_s15, curve)
    )
    tags: list[tuple[bytes, bytes]] = [
        (b"desc", _text(description)),
        (b"cprt", _text("CC0")),
        (b"wtpt", _xyz(_D50)),
        (b"chad", struct.pack(">4s4x", b"sf32") + b"".join(map(_s15, _adaptation().ravel()))),
        (b"rXYZ", _xyz(columns[:, 0])),
        (b"gXYZ", _xyz(columns[:, 1])),
        (b"bXYZ", _xyz(columns[:, 2])),
        (b"rTRC", parametric),
        (b"gTRC", parametric),
        (b"bTRC", parametric),
    ]
    return _assemble(tags, b"mntr", b"RGB ")


def _assemble(tags: list[tuple[bytes, bytes]], device: bytes, space: bytes) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    seen: dict[bytes, int] = {}
    for name, payload in tags:
        if payload not in seen:
            seen[payload] = start + len(body)
            body += payload + b"\0" * (-len(payload) % 4)
        table += struct.pack(">4sII", name, seen[payload], len(payload))
    pcs = b"XYZ " if space == b"RGB " else b"Lab "
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sI4sIQI12s4s",
        start + len(body),
        b"\0\0\0\0",
        0x04300000,
        device,
        space,
        pcs,
        *(2026, 1, 1, 0, 0, 0),
        b"acsp",
        b"\0\0\0\0",
        0,
        b"\0\0\0\0",
        0,
        0,
        0,
        b"".join(map(_s15, _D50)),
        b"\0\0\0\0",
    )
    return header.ljust(128, b"\0") + table + body


def _s15(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def _xyz(value: NDArray[np.float64]) -> bytes:
    return struct.pack(">4s4x", b"XYZ ") + b"".join(map(_s15, value))


def _text(value: str) -> bytes:
    encoded = value.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _xyz_of(xy: tuple[float, float]) -> NDArray[np.float64]:
    return np.array([xy[0] / xy[1], 1.0, (1 - xy[0] - xy[1]) / xy[1]])


def _rgb_to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    columns = np.stack([_xyz_of(xy) for xy in primaries], axis=1)
    return np.asarray(columns * np.linalg.solve(columns, _xyz_of(_D65_XY)))


def _adaptation() -> NDArray[np.float64]:
    """Bradford chromatic adaptation from D65 to D50 (ICC.1 annex E)."""
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ _xyz_of(_D65_XY))
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD)


@functools.cache
def srgb_profile() -> bytes:
    """The sRGB profile (IEC 61966-2-1) that outputs embed."""
    return matrix_profile("sRGB", BT709)


@functools.cache
def display_p3_profile() -> bytes:
    """Display P3: P3 primaries, D65, the sRGB curve."""
    return matrix_profile("Display P3", DISPLAY_P3)


@functools.cache
def adobe_rgb_profile() -> bytes:
    """Adobe RGB (1998): wider green, D65, gamma 563/256."""
    return matrix_profile("Adobe RGB", ADOBE_RGB, (563 / 256,))


def gamma_profile(gamma: float) -> bytes:
    """The primaries of sRGB with a pure power from coded values to light."""
    return matrix_profile("gamma", BT709, (gamma,))


_VIDEO_TRANSFERS: Final = (1, 2, 6, 13, 14, 15)


def cicp_is_srgb(primaries: int, transfer: int) -> bool:
    """Whether ITU-T H.273 code points mean sRGB, as `cicp_profile` reads them."""
    return primaries == 1 and transfer in _VIDEO_TRANSFERS


def is_grey(profile: bytes) -> bool:
    """Whether a profile says that it is for grey; a damaged one may say anything."""
    return profile[16:20] == b"GRAY"


def cicp_profile(primaries: int, transfer: int) -> bytes | None:
    """A profile for ITU-T H.273 code points; None where they mean sRGB or are not known.

    Transfer functions of video (BT.709 family) are read as the sRGB curve, as browsers do.
    """
    if transfer not in _VIDEO_TRANSFERS:
        return None
    if primaries == 12:
        return display_p3_profile()
    return matrix_profile("BT.2020", BT2020) if primaries == 9 else None


@dataclass(frozen=True)
class ToSrgb:
    """A conversion to sRGB; safe to share between threads.

    Attributes:
        identity: the profile is sRGB itself to within one level: nothing to do.
    """

    mode: str
    identity: bool
    _transform: ImageCms.ImageCmsTransform

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels of the profile's channels, uint8 [h,w] or [h,w,c], to sRGB uint8 [h,w,3]."""
        if self.identity:
            return pixels
        picture = Image.fromarray(pixels, self.mode) if self.mode == "CMYK" else _picture(pixels)
        done = self._transform.apply(picture)
        return np.array(done, dtype=np.uint8)


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels)


@functools.lru_cache(maxsize=16)
def to_srgb(profile: bytes, channels: int) -> ToSrgb:
    """The conversion from `profile` to sRGB, relative colorimetric with black point compensation.

    Args:
        profile: an ICC profile.
        channels: of the picture: 1 grey, 3 RGB, 4 CMYK.

    Raises:
        ProfileError: the profile is damaged or for another number of channels.
    """
    mode, space = {1: ("L", "GRAY"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}[channels]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != space:
            raise ProfileError(f"profile for {source.profile.xcolor_space}, picture is {space}")
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
        transform = ImageCms.buildTransform(source, target, mode, "RGB", _INTENT, _FLAGS)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise ProfileError("profile cannot be read") from error
    identity = channels == 3 and _is_identity(transform)
    return ToSrgb(mode, identity, transform)


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3)
    out: NDArray[Any] = np.asarray(transform.apply(Image.fromarray(grid)), dtype=np.int16)
    return int(np.abs(out - grid).max()) <= 1


def from_srgb(pixels: NDArray[np.uint8], profile: bytes) -> Image.Image:
    """Convert sRGB uint8 [h,w,3] to the CMYK of a press profile.

    Relative colorimetric with black point compensation.

    Returns:
        a Pillow picture of mode CMYK.

    Raises:
        ProfileError: the profile is damaged or not a CMYK one.
    """
    return _to_press(profile).apply(Image.fromarray(pixels))


@functools.lru_cache(maxsize=4)
def _to_press(profile: bytes) -> ImageCms.ImageCmsTransform:
    try:
        target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if target.profile.xcolor_space.strip() != "CMYK":
            raise ProfileError("not a CMYK profile")
        source = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
        return ImageCms.buildTransform(source, target, "RGB", "CMYK", _INTENT, _FLAGS)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise ProfileError("profile cannot be read") from error
