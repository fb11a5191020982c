"""What a request asks for, with its style's values where it leaves something open."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headshot.errors import StyleError, concerning
from headshot.imaging import renditions
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.containers.sniff import read_header
from headshot.imaging.decode import DecodeLimits, decode_photo
from headshot.imaging.renditions import RenditionSpec
from headshot.imaging.tone import ToneSpec
from headshot.pipeline.requests import (
    BackgroundKind,
    BackgroundWish,
    HeadshotOptions,
    RenditionRequest,
)
from headshot.pipeline.styles import Style

# Pixels: covers the largest file (4096) from a picture of 3:2.
_LONGEST_GROUND = 6144
# What a wish for a background is called in the proto.
_GROUND_FIELDS = {
    BackgroundKind.AUTO: "auto",
    BackgroundKind.COLOUR: "colour",
    BackgroundKind.GRADIENT: "gradient",
    BackgroundKind.BLUR: "blurred_scene",
    BackgroundKind.IMAGE: "image",
}


@dataclass(frozen=True)
class Wish:
    """A request's options with the style's values filled in.

    Attributes:
        specs: files to make.
        ground: background; of kind auto where the face shall decide.
        retouch: none, light or standard.
        tone: targets of exposure, balance and contrast.
    """

    specs: tuple[RenditionSpec, ...]
    ground: BackgroundSpec
    retouch: str
    tone: ToneSpec

    @property
    def longest_side(self) -> int:
        """Longest side of all files, pixels."""
        return _longest_side(self.specs)

    def steps(self, *, enlarged: bool) -> tuple[str, ...]:
        """Return what is done to the photo, in order, as its provenance tells it."""
        retouched = ("retouch",) if self.retouch != "none" else ()
        return ("denoise", "tone", *retouched, "matte", "background", *("upscale",) * enlarged)


def resolve(
    style: Style, options: HeadshotOptions, cmyk: bytes | None, limits: DecodeLimits | None = None
) -> Wish:
    """Fill the style's values into a request's options.

    Raises:
        InvalidRequestError: a rendition or a colour is not possible.
        PhotoError: the background picture cannot be used.
            Both name the field.
    """
    specs = (
        tuple(_wished_file(place, item, cmyk) for place, item in enumerate(options.renditions))
        or style.rendition_specs()
    )
    if options.background is None:
        ground = style.background_spec()
    else:
        with concerning(f"options.background.{_GROUND_FIELDS[options.background.kind]}"):
            ground = _wished_ground(
                style, options.background, limits or DecodeLimits(), _longest_side(specs)
            )
    tone = replace(style.tone_spec(), lift=options.lift_dark_face)
    return Wish(specs, ground, options.retouch or str(style.retouch), tone)


def _longest_side(specs: tuple[RenditionSpec, ...]) -> int:
    return max(max(spec.width, spec.height) for spec in specs)


def _picture(data: bytes, limits: DecodeLimits, covers: int) -> NDArray[np.uint8]:
    """Return a background picture, no larger than it takes to cover a square of so many pixels.

    It is held for the whole call: that of a camera takes more memory than all other pictures.
    """
    header = read_header(data, limits)
    short, long = sorted((header.width, header.height))
    side = min(math.ceil(covers * long / short), _LONGEST_GROUND)
    return decode_photo(data, limits, long_side=side).pixels


def _wished_file(place: int, item: RenditionRequest, cmyk: bytes | None) -> RenditionSpec:
    with concerning(f"options.renditions[{place}]"):
        return renditions.resolve(
            item.name,
            width=item.width,
            height=item.height,
            dpi=item.dpi,
            image_format=item.format,
            quality=item.quality,
            cmyk_profile=cmyk,
            cmyk=item.cmyk,
            transparent=item.transparent,
            progressive=item.progressive,
            template=item.filename_template,
        )


def _wished_ground(
    style: Style, wish: BackgroundWish, limits: DecodeLimits, covers: int
) -> BackgroundSpec:
    if wish.kind is BackgroundKind.IMAGE:
        if not style.background.allow_other:
            raise StyleError(
                f"style {style.id} allows no background picture", reason="BACKGROUND_NOT_IN_STYLE"
            )
        return BackgroundSpec(kind="image", image=_picture(wish.image, limits, covers))
    option = {
        BackgroundKind.AUTO: "auto",
        BackgroundKind.BLUR: "blur",
        BackgroundKind.COLOUR: wish.colour,
        BackgroundKind.GRADIENT: f"gradient:{wish.colour}",
    }[wish.kind]
    spec = style.background_spec(option)
    if wish.kind is BackgroundKind.COLOUR and spec.kind != "solid":
        # A style's options are texts, and not each of them is a colour.
        field = _GROUND_FIELDS[BackgroundKind(spec.kind)]
        raise StyleError(f"{wish.colour} is no colour; ask for it with the field {field}")
    return spec
