"""Finished pixels to files that keep their colour, their density and their provenance.

Only pixels come in, so nothing of a photo's own metadata (EXIF, position, thumbnails) can go out.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final, Literal

import cv2
import numpy as np
import simplejpeg
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from headshot.errors import InvalidRequestError
from headshot.imaging.containers.write import (
    exif_resolution,
    grey_png,
    jpeg_with_metadata,
    png_with_metadata,
)
from headshot.imaging.icc import ProfileError, from_srgb, srgb_profile

OutputFormat = Literal["jpeg", "png", "webp", "avif", "tiff"]
Colour = Literal["srgb", "cmyk"]

MEDIA_TYPES: Final[dict[OutputFormat, str]] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "tiff": "image/tiff",
}
EXTENSIONS: Final[dict[OutputFormat, str]] = {
    "jpeg": "jpg",
    "png": "png",
    "webp": "webp",
    "avif": "avif",
    "tiff": "tif",
}
_FILTER_UP = 2
_CMYK_FORMATS: Final = frozenset({"jpeg", "tiff"})
_XMP_TAG, _PREDICTOR_TAG = 700, 317


@dataclass(frozen=True)
class EncodeSpec:
    """How to write a picture.

    Attributes:
        format: file format.
        quality: 1..100 of JPEG, WebP and AVIF; each codec's own scale.
        progressive: JPEG in progressive scans with optimised tables: about 5% smaller and some six
            times slower.
        dpi: density in pixels per inch, or None to say nothing; WebP and AVIF hold it as EXIF.
        colour: "srgb", or "cmyk" (JPEG and TIFF) through `cmyk_profile`.
        cmyk_profile: ICC profile of the press; nothing is guessed without one.
        lossless: WebP without loss (PNG and TIFF always are; JPEG and AVIF never).
    """

    format: OutputFormat = "jpeg"
    quality: int = 92
    progressive: bool = False
    dpi: int | None = 72
    colour: Colour = "srgb"
    cmyk_profile: bytes | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        """Check that the parts agree.

        Raises:
            InvalidRequestError: INVALID_ENCODING, CMYK_NOT_SUPPORTED or CMYK_PROFILE_MISSING.
        """
        if self.format not in MEDIA_TYPES:
            raise _invalid(f"Format {self.format!r} cannot be written.")
        if not 1 <= self.quality <= 100:
            raise _invalid(f"quality is {self.quality}; it must be 1 to 100.")
        if self.dpi is not None and not 1 <= self.dpi <= 2400:
            raise _invalid(f"dpi is {self.dpi}; it must be 1 to 2400.")
        if self.lossless and self.format in ("jpeg", "avif"):
            raise _invalid(f"{self.format} is not written without loss; ask for PNG or WebP.")
        if self.colour == "cmyk":
            if self.format not in _CMYK_FORMATS:
                raise _invalid(
                    f"{self.format} cannot hold CMYK; ask for JPEG or TIFF.", "CMYK_NOT_SUPPORTED"
                )
            if not self.cmyk_profile:
                raise _invalid(
                    "CMYK needs the ICC profile of the press; configure one or ask for sRGB.",
                    "CMYK_PROFILE_MISSING",
                )

    @property
    def media_type(self) -> str:
        """MIME type of the file."""
        return MEDIA_TYPES[self.format]

    @property
    def extension(self) -> str:
        """File name extension without its dot."""
        return EXTENSIONS[self.format]


def _invalid(message: str, reason: str = "INVALID_ENCODING") -> InvalidRequestError:
    return InvalidRequestError(message, reason=reason)


def encode(pixels: NDArray[np.uint8], spec: EncodeSpec, *, xmp: bytes | None = None) -> bytes:
    """Write a picture.

    The same pixels, spec and packet give the same bytes.

    Args:
        pixels: uint8 [h,w,3] sRGB, or [h,w,4] with straight alpha (PNG, WebP, AVIF, TIFF).
        spec: how.
        xmp: an XMP packet to embed, at most 65,502 bytes.

    Returns:
        the file, with an ICC profile (sRGB or the press profile).

    Raises:
        InvalidRequestError: TRANSPARENCY_NOT_SUPPORTED, or CMYK_PROFILE_INVALID.
        ValueError: not such pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"uint8 [h,w,3|4] wanted, got {pixels.dtype} {pixels.shape}")
    pixels = np.ascontiguousarray(pixels)
    if pixels.shape[2] == 4 and (spec.format == "jpeg" or spec.colour == "cmyk"):
        raise _invalid(
            "JPEG and CMYK cannot be transparent; ask for PNG, WebP, AVIF or TIFF in sRGB.",
            "TRANSPARENCY_NOT_SUPPORTED",
        )
    if spec.format == "jpeg":
        return _jpeg(pixels, spec, xmp)
    if spec.format == "png":
        return png_with_metadata(_png(pixels), icc=srgb_profile(), xmp=xmp, dpi=spec.dpi)
    if spec.format == "tiff":
        return _tiff(pixels, spec, xmp)
    options: dict[str, Any] = {"quality": spec.quality, "icc_profile": srgb_profile()}
    if xmp is not None:
        options["xmp"] = xmp
    if spec.dpi is not None:
        options["exif"] = exif_resolution(spec.dpi)
    if spec.format == "webp":
        # Lossy method 2 is within 1% of the size of the default 4 in less than half of its time;
        # lossless method 0 is 17% larger than 1 in a third of its time ("quality" is effort there).
        options |= {"method": 2} if not spec.lossless else {"method": 0, "lossless": True}
    else:
        options |= {"speed": 9, "subsampling": "4:4:4"}
    return _pillow(Image.fromarray(pixels), spec.format.upper(), options)


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """Write a mask, uint8 [h,w], as an 8-bit grey PNG without a profile.

    Raises:
        ValueError: not such pixels.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"uint8 [h,w] wanted, got {mask.dtype} {mask.shape}")
    height, width = mask.shape
    # Differences from the row above, which are zeros but for the edge.
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = mask[0]
    np.subtract(mask[1:], mask[:-1], out=rows[1:, 1:])
    return grey_png(width, height, isal_zlib.compress(rows, level=1))


def _jpeg(pixels: NDArray[np.uint8], spec: EncodeSpec, xmp: bytes | None) -> bytes:
    if spec.colour == "cmyk":
        ink, profile = _to_cmyk(pixels, spec)
        options = {"quality": spec.quality, "subsampling": 0, "progressive": spec.progressive}
        encoded = _pillow(ink, "JPEG", options)
    elif spec.progressive:
        profile = srgb_profile()
        options = {"quality": spec.quality, "subsampling": 0, "progressive": True}
        encoded = _pillow(Image.fromarray(pixels), "JPEG", options)
    else:
        profile = srgb_profile()
        encoded = simplejpeg.encode_jpeg(
            pixels, quality=spec.quality, colorspace="RGB", colorsubsampling="444"
        )
    return jpeg_with_metadata(encoded, icc=profile, xmp=xmp, dpi=spec.dpi)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG by Paeth prediction and run lengths.

    Four times faster than searching for matches, which photos hardly have, and no larger; on
    portraits the one filter gives the size of a choice for each row in two thirds of its time.
    """
    swap = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    settings = [
        cv2.IMWRITE_PNG_COMPRESSION,
        1,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
        cv2.IMWRITE_PNG_FILTER,
        cv2.IMWRITE_PNG_FILTER_PAETH,
    ]
    written, data = cv2.imencode(".png", cv2.cvtColor(pixels, swap), settings)
    if not written:
        raise ValueError("PNG cannot be written")
    return data.tobytes()


def _tiff(pixels: NDArray[np.uint8], spec: EncodeSpec, xmp: bytes | None) -> bytes:
    picture, profile = Image.fromarray(pixels), srgb_profile()
    if spec.colour == "cmyk":
        picture, profile = _to_cmyk(pixels, spec)
    tags: dict[int, Any] = {_PREDICTOR_TAG: 2}
    if xmp is not None:
        tags[_XMP_TAG] = xmp
    options: dict[str, Any] = {
        "compression": "tiff_lzw",
        "tiffinfo": tags,
        "icc_profile": profile,
    }
    if spec.dpi is not None:
        options["dpi"] = (spec.dpi, spec.dpi)
    return _pillow(picture, "TIFF", options)


def _to_cmyk(pixels: NDArray[np.uint8], spec: EncodeSpec) -> tuple[Image.Image, bytes]:
    profile = spec.cmyk_profile
    if profile is None:  # the spec has refused that
        raise _invalid("CMYK needs a profile.", "CMYK_PROFILE_MISSING")
    try:
        return from_srgb(pixels, profile), profile
    except ProfileError as error:
        raise _invalid(
            "The configured CMYK profile is not an ICC profile of a CMYK press.",
            "CMYK_PROFILE_INVALID",
        ) from error


def _pillow(picture: Image.Image, name: str, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    picture.save(out, name, **options)
    return out.getvalue()
