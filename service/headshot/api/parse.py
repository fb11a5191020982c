"""Requests of headshot.v1 -> the pipeline's own types."""

from __future__ import annotations

from collections.abc import Iterable

from headshot.imaging.encode import MEDIA_TYPES, OutputFormat
from headshot.pipeline.requests import (
    BackgroundKind,
    BackgroundWish,
    HeadshotOptions,
    PhotoInput,
    RenditionRequest,
)
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2

_FORMATS = {
    style_pb2.IMAGE_FORMAT_UNSPECIFIED: "",
    style_pb2.IMAGE_FORMAT_JPEG: "jpeg",
    style_pb2.IMAGE_FORMAT_PNG: "png",
    style_pb2.IMAGE_FORMAT_WEBP: "webp",
    style_pb2.IMAGE_FORMAT_AVIF: "avif",
    style_pb2.IMAGE_FORMAT_TIFF: "tiff",
}
_RETOUCH = {
    style_pb2.RETOUCH_LEVEL_UNSPECIFIED: "",
    style_pb2.RETOUCH_LEVEL_NONE: "none",
    style_pb2.RETOUCH_LEVEL_LIGHT: "light",
    style_pb2.RETOUCH_LEVEL_STANDARD: "standard",
}


def image_format(value: style_pb2.ImageFormat, default: OutputFormat) -> OutputFormat:
    """Return a format, or `default` where none was asked for."""
    name = _FORMATS[value]
    return next((known for known in MEDIA_TYPES if known == name), default)


def photo(message: photo_pb2.Photo, field: str = "photo") -> PhotoInput:
    """Return one photo; `field` is its place in the request."""
    hint = (message.face_hint.x, message.face_hint.y) if message.HasField("face_hint") else None
    return PhotoInput(message.data, message.photo_id, hint, field)


def photos(messages: Iterable[photo_pb2.Photo], field: str = "photos") -> tuple[PhotoInput, ...]:
    """Return a set of photos; `field` is their list in the request."""
    return tuple(photo(message, f"{field}[{k}]") for k, message in enumerate(messages))


def background(message: style_pb2.Background) -> BackgroundWish | None:
    """Return the wish for a background, None where the style shall decide."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "auto":
        return BackgroundWish(BackgroundKind.AUTO)
    if kind == "colour":
        return BackgroundWish(BackgroundKind.COLOUR, colour=message.colour)
    if kind == "gradient":
        return BackgroundWish(BackgroundKind.GRADIENT, colour=message.gradient)
    if kind == "blurred_scene":
        return BackgroundWish(BackgroundKind.BLUR)
    return BackgroundWish(BackgroundKind.IMAGE, image=message.image)


def rendition(message: style_pb2.RenditionSpec) -> RenditionRequest:
    """Return one wished-for file."""
    return RenditionRequest(
        name=message.name,
        width=message.width,
        height=message.height,
        dpi=message.dpi,
        format=_FORMATS[message.format],
        quality=message.quality,
        cmyk=message.colour_space == style_pb2.COLOUR_SPACE_CMYK,
        transparent=message.transparent,
        progressive=message.progressive,
        filename_template=message.filename_template,
    )


def options(message: pb.HeadshotOptions) -> HeadshotOptions:
    """Return what a headshot shall look like."""
    return HeadshotOptions(
        style_id=message.style_id,
        style_version=message.style_version,
        background=background(message.background),
        renditions=tuple(rendition(item) for item in message.renditions),
        candidates=message.candidates or 1,
        strength=message.strength if message.HasField("strength") else None,
        steps=message.steps,
        seed=message.seed,
        retouch=_RETOUCH[message.retouch],
        allow_unverified=message.allow_unverified,
        include_intermediates=message.include_intermediates,
        previews=message.previews,
        no_degrade=message.no_degrade,
        lift_dark_face=message.lift_dark_face,
    )
