"""Untrusted bytes to an upright sRGB picture.

Everything that can be refused is refused from the header, before a pixel is decoded: size in bytes
and pixels, animation, formats, truncation. The decoders of the image libraries then see a file
whose claims were checked, and any failure of theirs becomes a PhotoError. Pure and thread-safe:
all library settings are made once, at import.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import pillow_heif
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from headshot.errors import PhotoError, PhotoLimitError
from headshot.imaging import icc as profiles
from headshot.imaging.colour import cmyk_to_rgb, flatten, upright
from headshot.imaging.containers.header import Format, Header
from headshot.imaging.geometry import fit_long_side
from headshot.imaging.limits import read_header
from headshot.imaging.refusals import DecodeLimits, corrupt, truncated, unsupported

__all__ = ["DecodeLimits", "Photo", "decode_photo"]

# Pillow's own pixel limit is a warning and one for the whole process; ours is checked before.
Image.MAX_IMAGE_PIXELS = None
# Named here because Pillow otherwise imports its plug-ins on first use, in whichever thread.
_PLUGINS: Final = (
    AvifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
pillow_heif.options.THUMBNAILS = False
pillow_heif.options.DEPTH_IMAGES = False
pillow_heif.options.AUX_IMAGES = False

_PILLOW: Final = {"png": "PNG", "avif": "AVIF", "tiff": "TIFF", "jpeg": "JPEG"}


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Attributes:
        pixels: uint8 [h,w,3], sRGB, upright, contiguous.
        format: container and codec of the file.
        original_size: (width, height) of the upright photo before any downscaling.
        orientation: EXIF orientation 1..8 that was applied.
        icc: whether an embedded profile (or what the file says of its colours in other words:
            coded primaries, a camera's Adobe RGB mark, a PNG's gamma) other than sRGB was applied.
        bit_depth: bits per sample in the file.
        notes: what the decoder did or set aside: ALPHA_FLATTENED (transparent parts are white
            now), CMYK_WITHOUT_PROFILE, ICC_IGNORED (damaged, or not for these channels),
            HDR_AS_SDR (a PQ or HLG picture was read as an ordinary one), REDUCED_BIT_DEPTH.
    """

    pixels: NDArray[np.uint8]
    format: Format
    original_size: tuple[int, int]
    orientation: int
    icc: bool
    bit_depth: int
    notes: tuple[str, ...] = ()


def decode_photo(
    data: bytes, limits: DecodeLimits | None = None, *, long_side: int | None = None
) -> Photo:
    """Decode a JPEG, PNG, WebP, HEIC, AVIF or TIFF photo.

    Args:
        data: the whole file.
        limits: enforced from the header; the defaults where None.
        long_side: shrink to this longer side in pixels (JPEG partly in its DCT, the rest by area
            averaging); smaller photos stay as they are. None keeps every pixel.

    Returns:
        the photo, upright and in sRGB.

    Raises:
        PhotoError: EMPTY_PHOTO, UNSUPPORTED_FORMAT, PHOTO_TRUNCATED, PHOTO_TOO_SMALL,
            ANIMATED_PHOTO or CORRUPT_PHOTO.
        PhotoLimitError: PHOTO_TOO_LARGE or PHOTO_TOO_COMPLEX.
        ValueError: long_side is below 1.
    """
    if long_side is not None and long_side < 1:
        raise ValueError("long_side must be positive")
    header = read_header(data, limits or DecodeLimits())
    try:
        return _decode(header, long_side)
    except PhotoError:
        raise
    except MemoryError:
        raise PhotoLimitError("The photo needs more memory than there is.") from None
    except Exception as error:  # whatever a library makes of a damaged file
        raise _as_photo_error(error, header) from error


def _as_photo_error(error: Exception, header: Header) -> PhotoError:
    text = str(error).lower()
    if any(word in text for word in ("truncated", "premature end", "end of file")):
        return truncated("its picture data end early")
    if isinstance(error, UnidentifiedImageError) and header.format == "tiff":
        return unsupported("This kind of TIFF")
    return corrupt("its picture data cannot be read")


def _decode(header: Header, long_side: int | None) -> Photo:
    notes = list(header.notes)
    size, turn = (header.width, header.height), header.orientation
    if header.format == "jpeg":
        raster = _decode_jpeg(header, long_side)
    elif header.format == "heic":
        raster = _decode_heic(header)
        # libheif turns (and crops) the picture itself.
        size, turn = (raster.shape[1], raster.shape[0]), 1
    elif header.format == "webp":
        raster = _decode_webp(header)
    else:
        raster = _decode_pillow(header, long_side)
    if raster.dtype != np.uint8:  # 16-bit grey, or a 16-bit PNG with a transparent colour
        raster = _to_8_bits(raster)
        if header.white_is_zero:  # Pillow turns it for 8 bits and fewer only
            raster = 255 - raster
    if raster.ndim == 3 and raster.shape[2] in (2, 4) and not header.cmyk:
        if bool((raster[..., -1] != 255).any()):
            notes.append("ALPHA_FLATTENED")
        raster = flatten(raster)
    if raster.ndim == 3 and raster.shape[2] == 1:
        raster = raster[..., 0]
    if header.bit_depth > 8:
        notes.append("REDUCED_BIT_DEPTH")
    if long_side is not None:
        raster = fit_long_side(raster, long_side)
    pixels, converted = _to_srgb(raster, header, notes)
    pixels = upright(pixels, turn)
    return Photo(
        pixels=np.ascontiguousarray(pixels),
        format=header.format,
        original_size=size[::-1] if turn >= 5 else size,
        orientation=header.orientation,
        icc=converted,
        bit_depth=header.bit_depth,
        notes=tuple(notes),
    )


def _to_8_bits(raster: NDArray[Any]) -> NDArray[np.uint8]:
    """uint16 of any shape [h,...] rounded to 0..255, some rows at a time."""
    out = np.empty(raster.shape, np.uint8)
    for top in range(0, raster.shape[0], 64):
        out[top : top + 64] = (raster[top : top + 64].astype(np.uint32) + 128) // 257
    return out


def _to_srgb(
    raster: NDArray[np.uint8], header: Header, notes: list[str]
) -> tuple[NDArray[np.uint8], bool]:
    """uint8 [h,w,3] sRGB, and whether a profile was applied."""
    profile = _profile_of(header, notes)
    channels = 1 if raster.ndim == 2 else raster.shape[2]
    if profile is not None:
        if channels == 3 and profiles.is_grey(profile) and _without_colour(raster):
            # libjpeg gives a grey JPEG three channels; its profile is for one.
            raster, channels = raster[..., 0], 1
        try:
            conversion = profiles.to_srgb(profile, channels)
        except profiles.ProfileError:
            notes.append("ICC_IGNORED")
        else:
            return conversion.apply(raster), not conversion.identity
    if channels == 4:
        notes.append("CMYK_WITHOUT_PROFILE")
        return cmyk_to_rgb(raster), False
    if channels == 1:
        return np.repeat(raster[..., None], 3, axis=2), False
    return raster, False


def _profile_of(header: Header, notes: list[str]) -> bytes | None:
    """The profile that says what the picture's numbers mean; None where they are sRGB."""
    if header.icc is None and header.adobe_rgb:
        return profiles.adobe_rgb_profile()
    if header.gamma is not None:
        return profiles.gamma_profile(header.gamma)
    if header.cicp is None or (header.icc is not None and header.format != "png"):
        return header.icc
    # In a PNG the code points count more than a profile (third edition, 4.3), where they tell.
    if profiles.cicp_is_srgb(*header.cicp):
        return None
    coded = profiles.cicp_profile(*header.cicp)
    if coded is None and header.icc is None and header.cicp[1] in (16, 18):
        notes.append("HDR_AS_SDR")
    return coded or header.icc


def _without_colour(raster: NDArray[np.uint8]) -> bool:
    return bool((raster == raster[..., :1]).all())


def _decode_jpeg(header: Header, long_side: int | None) -> NDArray[np.uint8]:
    """uint8 [h,w,3] RGB or [h,w,4] ink; at least `long_side` long, by libjpeg's scaled DCT."""
    colorspace = "CMYK" if header.cmyk else "RGB"
    smallest = {"min_height": 0, "min_width": 0}
    if long_side is not None:
        ratio = min(1.0, long_side / max(header.width, header.height))
        smallest = {
            "min_height": math.ceil(header.height * ratio),
            "min_width": math.ceil(header.width * ratio),
        }
    try:
        pixels = simplejpeg.decode_jpeg(header.data, colorspace, strict=True, **smallest)
    except ValueError as error:
        text = str(error)
        if "extraneous bytes" in text:
            # Padding between segments that some cameras write: libjpeg skips it, nothing is lost.
            pixels = simplejpeg.decode_jpeg(header.data, colorspace, strict=False, **smallest)
        elif (
            "subsampling" in text and not header.cmyk
        ):  # a rare chroma layout that TurboJPEG's interface has no name for
            pixels = _decode_pillow(header, long_side)
        else:
            raise
    ink = np.asarray(pixels, dtype=np.uint8)
    return 255 - ink if header.cmyk and header.inverted else ink


def _decode_heic(header: Header) -> NDArray[np.uint8]:
    """uint8 [h,w,3|4], already upright."""
    picture = pillow_heif.open_heif(io.BytesIO(header.data), convert_hdr_to_8bit=True)[0]
    return np.asarray(picture, dtype=np.uint8)


def _decode_webp(header: Header) -> NDArray[np.uint8]:
    """uint8 [h,w,3|4]; OpenCV decodes stills in a third of the memory of Pillow's frame reader."""
    decoded = cv2.imdecode(np.frombuffer(header.data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape[:2] != (header.height, header.width):
        raise corrupt("its picture data cannot be read")
    swap = cv2.COLOR_BGR2RGB if decoded.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(decoded, swap, dst=decoded), dtype=np.uint8)


def _decode_pillow(header: Header, long_side: int | None) -> NDArray[Any]:
    """uint8 [h,w], [h,w,2..4], or uint16 [h,w], [h,w,2], [h,w,4]; at least `long_side` long."""
    with Image.open(io.BytesIO(header.data), formats=(_PILLOW[header.format],)) as picture:
        if picture.size != (header.width, header.height):
            raise corrupt("its size is not what its header says")
        mode = picture.mode
        key = picture.info.get("transparency")
        if mode == "P":
            mode = "RGBA" if key is not None else "RGB"
        elif key is not None and header.bit_depth == 16:
            return _with_transparent_colour(header, key)
        elif key is not None and mode in ("1", "L"):
            # The file counts in its own steps, Pillow's pixels in 255ths.
            most = 2**header.bit_depth - 1
            picture.info["transparency"] = (key & most) * 255 // most
            mode = "RGBA"
        elif key is not None and mode == "RGB":
            mode = "RGBA"
        elif mode in ("1", "I"):
            mode = "L"
        elif mode == "YCbCr":
            mode = "RGB"
        elif mode.startswith("I;16"):
            return np.asarray(picture, dtype=np.uint16)
        if mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
            raise unsupported(f"A picture of mode {mode}")
        picture.load()
        converted = picture if picture.mode == mode else picture.convert(mode)
        factor = max(picture.size) // long_side if long_side else 1
        if factor > 1 and mode in ("L", "RGB", "CMYK"):
            # Averaging here already spares a full-size copy, hundreds of megabytes at the limit.
            converted = converted.reduce(factor)
        return np.asarray(converted)


def _with_transparent_colour(header: Header, key: Any) -> NDArray[np.uint16]:
    """uint16 [h,w,2|4] of a 16-bit PNG with a tRNS chunk, which Pillow cannot compare.

    Args:
        header: of the file.
        key: the transparent grey; a colour OpenCV has applied already.
    """
    decoded = cv2.imdecode(np.frombuffer(header.data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape[:2] != (header.height, header.width):
        raise corrupt("its picture data cannot be read")
    if decoded.ndim == 2:
        alpha = np.where(decoded == key, 0, 65535).astype(np.uint16)
        return np.dstack([decoded, alpha]).astype(np.uint16, copy=False)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA, dst=decoded), dtype=np.uint16)
