"""What a request asks for, with its style's values where it leaves something open."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headshot.errors import StyleError
from headshot.imaging import renditions
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.decode import DecodeLimits, decode_photo
from headshot.imaging.renditions import RenditionSpec
from headshot.imaging.tone import ToneSpec
from headshot.pipeline.requests import BackgroundKind, BackgroundWish, HeadshotOptions
from headshot.pipeline.styles import Style


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
    """
    specs = (
        tuple(
            renditions.resolve(
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
            for item in options.renditions
        )
        or style.rendition_specs()
    )
    ground = (
        style.background_spec()
        if options.background is None
        else _wished_ground(style, options.background, limits or DecodeLimits())
    )
    tone = replace(style.tone_spec(), lift=options.lift_dark_face)
    return Wish(specs, ground, options.retouch or str(style.retouch), tone)


def _wished_ground(style: Style, wish: BackgroundWish, limits: DecodeLimits) -> BackgroundSpec:
    if wish.kind is BackgroundKind.IMAGE:
        if not style.background.allow_other:
            raise StyleError(
                f"style {style.id} allows no background picture", reason="BACKGROUND_NOT_IN_STYLE"
            )
        return BackgroundSpec(kind="image", image=decode_photo(wish.image, limits).pixels)
    option = {
        BackgroundKind.AUTO: "auto",
        BackgroundKind.BLUR: "blur",
        BackgroundKind.COLOUR: wish.colour,
        BackgroundKind.GRADIENT: f"gradient:{wish.colour}",
    }[wish.kind]
    return style.background_spec(option)
