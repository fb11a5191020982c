"""The files that one finished picture becomes: sizes, densities, names.

Sizes are made from the largest picture there is, downwards, with a Lanczos filter on sRGB levels.
Filtering linear light instead was looked at and left: it draws dark fringes around collars and
hair on a light background and washes out pupils at 48 px. Nothing is ever stretched: another aspect
ratio is cropped, and says so; enlarging says so too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headshot.errors import InvalidRequestError
from headshot.imaging.colour import flatten
from headshot.imaging.encode import MEDIA_TYPES, EncodeSpec, OutputFormat
from headshot.imaging.filenames import check_template, file_name

MIN_SIDE: Final = 32
MAX_SIDE: Final = 4096
MAX_ASPECT: Final = 3
DEFAULT_TEMPLATE: Final = "{name}-{width}x{height}.{ext}"


@dataclass(frozen=True)
class RenditionSpec:
    """One file to make.

    Attributes:
        name: of the preset, or the caller's own.
        width: in pixels, 32 to 4096.
        height: in pixels, 32 to 4096, a third of the width to three times as much.
        dpi: density in pixels per inch, 1 to 1200.
        encode: file format and its settings; `dpi` above replaces its density.
        transparent: keep the cut-out's transparency.
        file_name: template, see `headshot.imaging.filenames.file_name`.
    """

    name: str
    width: int
    height: int
    dpi: int = 72
    encode: EncodeSpec = field(default_factory=EncodeSpec)
    transparent: bool = False
    file_name: str = DEFAULT_TEMPLATE

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            InvalidRequestError: INVALID_RENDITION, or TRANSPARENCY_NOT_SUPPORTED.
        """
        if not (MIN_SIDE <= self.width <= MAX_SIDE and MIN_SIDE <= self.height <= MAX_SIDE):
            raise _invalid(
                f"Rendition {self.name!r} is {self.width}x{self.height}; each side must have"
                f" {MIN_SIDE} to {MAX_SIDE} pixels."
            )
        if not 1 / MAX_ASPECT <= self.aspect <= MAX_ASPECT:
            raise _invalid(
                f"Rendition {self.name!r} is {self.width}x{self.height}; one side may be at most"
                f" {MAX_ASPECT} times as long as the other."
            )
        if not 1 <= self.dpi <= 1200:
            raise _invalid(f"Rendition {self.name!r} has {self.dpi} dpi; 1 to 1200 are allowed.")
        if self.transparent and (self.encode.format == "jpeg" or self.encode.colour == "cmyk"):
            raise _invalid(
                f"Rendition {self.name!r} cannot be transparent as {self.encode.format}"
                f" in {self.encode.colour}; ask for PNG, WebP, AVIF or TIFF in sRGB.",
                "TRANSPARENCY_NOT_SUPPORTED",
            )
        check_template(self.file_name)

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    @property
    def encoding(self) -> EncodeSpec:
        """`encode` with this rendition's density."""
        return replace(self.encode, dpi=self.dpi)

    def filename(self, fields: Mapping[str, str] | None = None) -> str:
        """The file's name; `fields` adds request_id, style and so on."""
        own = {
            "name": self.name,
            "width": str(self.width),
            "height": str(self.height),
            "ext": self.encode.extension,
        }
        return file_name(self.file_name, {**(fields or {}), **own})


@dataclass(frozen=True)
class Rendition:
    """Finished pixels.

    Attributes:
        pixels: uint8 [height,width,3] sRGB, or [height,width,4] with straight alpha.
        upsampled: the master had fewer pixels than were asked for.
        cropped: the master had another aspect ratio by more than rounding.
    """

    pixels: NDArray[np.uint8]
    upsampled: bool
    cropped: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """UPSAMPLED, CROPPED."""
        flags = {"UPSAMPLED": self.upsampled, "CROPPED": self.cropped}
        return tuple(code for code, is_set in flags.items() if is_set)


_JPEG_WEB: Final = EncodeSpec(format="jpeg", quality=90)
_PNG: Final = EncodeSpec(format="png")

PRESETS: Final[Mapping[str, RenditionSpec]] = {
    spec.name: spec
    for spec in (
        RenditionSpec("web", 1200, 1200, 72, _JPEG_WEB),
        RenditionSpec("print", 2400, 2400, 300, EncodeSpec(format="jpeg", quality=95)),
        RenditionSpec("linkedin", 800, 800, 72, EncodeSpec(format="jpeg", quality=92)),
        RenditionSpec("avatar", 256, 256, 72, EncodeSpec(format="jpeg", quality=92)),
        RenditionSpec("cutout", 1200, 1200, 72, _PNG, transparent=True),
        RenditionSpec("wide", 1920, 1080, 72, _JPEG_WEB),
        RenditionSpec("landscape", 1600, 1200, 72, _JPEG_WEB),
    )
}
"""web, print, linkedin (its minimum is 400), avatar: 1:1; cutout: 1:1 transparent PNG; wide: 16:9;
landscape: 4:3."""


def size_of(name: str, width: int = 0, height: int = 0) -> tuple[int, int]:
    """Return (width, height) in pixels of a rendition, unchecked; arguments are as of `resolve`.

    (0, 0) for a name that is no preset and has no side.
    """
    preset = PRESETS.get(name)
    if not (width or height):
        return (preset.width, preset.height) if preset else (0, 0)
    ratio = preset.aspect if preset else 1.0
    return (width or round(height * ratio), height or round(width / ratio))


def resolve(
    name: str,
    *,
    width: int = 0,
    height: int = 0,
    dpi: int = 0,
    image_format: str = "",
    quality: int = 0,
    cmyk_profile: bytes | None = None,
    cmyk: bool = False,
    transparent: bool = False,
    progressive: bool = False,
    template: str = "",
) -> RenditionSpec:
    """A preset with some of its values replaced, or a rendition of the caller's own.

    Args:
        name: a preset, or any name when a side is given.
        width: pixels; 0 takes the preset's, or follows `height` in the preset's aspect ratio (a
            square for an own name).
        height: pixels; 0 takes the preset's, or follows `width` the same way.
        dpi: pixels per inch; 0 takes the preset's, or 72.
        image_format: jpeg, png, webp, avif or tiff; empty takes the preset's, or PNG where
            `transparent`, or JPEG.
        quality: 1..100; 0 takes the preset's.
        cmyk_profile: the operator's press profile.
        cmyk: convert to it.
        transparent: keep the cut-out's transparency; presets that are transparent stay so.
        progressive: write a JPEG progressively.
        template: file name template; empty takes the default.

    Raises:
        InvalidRequestError: INVALID_RENDITION, UNKNOWN_RENDITION, INVALID_ENCODING,
            CMYK_PROFILE_MISSING, CMYK_NOT_SUPPORTED, TRANSPARENCY_NOT_SUPPORTED or
            INVALID_FILE_NAME.
    """
    preset = PRESETS.get(name)
    size = size_of(name, width, height)
    if not any(size):
        raise _invalid(
            f"Rendition {name!r} is not known; use one of {', '.join(PRESETS)}, or give a width or"
            " height.",
            "UNKNOWN_RENDITION",
        )
    base = preset or RenditionSpec(name, MIN_SIDE, MIN_SIDE, 72)
    transparent = transparent or base.transparent
    chosen = _format(image_format, base, transparent)
    encode = EncodeSpec(
        format=chosen,
        quality=quality or base.encode.quality,
        progressive=chosen == "jpeg" and (progressive or base.encode.progressive),
        colour="cmyk" if cmyk else "srgb",
        cmyk_profile=cmyk_profile if cmyk else None,
    )
    return RenditionSpec(
        name, *size, dpi or base.dpi, encode, transparent, template or base.file_name
    )


def _format(asked: str, base: RenditionSpec, transparent: bool) -> OutputFormat:
    if not asked:
        opaque_only = base.encode.format == "jpeg"
        return "png" if transparent and opaque_only else base.encode.format
    for known in MEDIA_TYPES:
        if asked == known:
            return known
    raise _invalid(f"Format {asked!r} is not known; use one of {', '.join(MEDIA_TYPES)}.")


def render(
    master: NDArray[np.uint8], spec: RenditionSpec, *, focus: tuple[float, float] = (0.5, 0.5)
) -> Rendition:
    """Make the pixels of one rendition.

    Args:
        master: the finished picture, uint8 [H,W,3], or [H,W,4] with straight alpha.
        spec: what to make. An opaque one lays a transparent master over white.
        focus: (x, y) in 0..1 of the master that a crop keeps as near to its middle as it can.

    Raises:
        InvalidRequestError: TRANSPARENCY_UNAVAILABLE when a transparent rendition is asked of an
            opaque master.
    """
    if spec.transparent and master.shape[2] != 4:
        raise _invalid(
            f"Rendition {spec.name!r} is transparent, but there is no matte of this picture.",
            "TRANSPARENCY_UNAVAILABLE",
        )
    if not spec.transparent and master.shape[2] == 4:
        master = flatten(master)
    window, cropped = _window(master.shape[1], master.shape[0], spec, focus)
    picture = Image.fromarray(np.ascontiguousarray(master))
    upsampled = window[2] - window[0] < spec.width or window[3] - window[1] < spec.height
    size = (spec.width, spec.height)
    if picture.size == size and not cropped:
        return Rendition(np.ascontiguousarray(master), upsampled=False, cropped=False)
    # Pillow filters RGBA with premultiplied colour, so hidden colour does not bleed into edges.
    made = np.array(picture.resize(size, Image.Resampling.LANCZOS, box=window), dtype=np.uint8)
    if made.shape[2] == 4:
        made[made[..., 3] == 0] = 0  # What rounds to transparent hides nothing, either.
    return Rendition(made, upsampled=upsampled, cropped=cropped)


def _window(
    width: int, height: int, spec: RenditionSpec, focus: tuple[float, float]
) -> tuple[tuple[float, float, float, float], bool]:
    """The largest window (left, top, right, bottom) of the asked aspect, and whether it cuts."""
    across, down = min(width, height * spec.aspect), min(height, width / spec.aspect)
    # Less than a pixel comes from rounding the master's own size.
    cropped = width - across >= 1 or height - down >= 1
    left = min(max(focus[0] * width - across / 2, 0.0), width - across)
    top = min(max(focus[1] * height - down / 2, 0.0), height - down)
    return (left, top, left + across, top + down), cropped


def _invalid(message: str, reason: str = "INVALID_RENDITION") -> InvalidRequestError:
    return InvalidRequestError(message, reason=reason)
