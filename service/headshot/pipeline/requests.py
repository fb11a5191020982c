"""What callers ask of the pipeline, free of any transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from headshot.pipeline.identity import Template


@dataclass(frozen=True)
class PhotoInput:
    """One photo as it came.

    Attributes:
        data: the encoded file.
        photo_id: the caller's name for it.
        face_hint: point near the wanted face in 0..1 of width and height, or None.
        field: where it stands in the request, as a proto path.
    """

    data: bytes
    photo_id: str = ""
    face_hint: tuple[float, float] | None = None
    field: str = "photo"


class BackgroundKind(StrEnum):
    """Kinds of background that a caller may ask for."""

    AUTO = "auto"
    COLOUR = "colour"
    GRADIENT = "gradient"
    BLUR = "blur"
    IMAGE = "image"


@dataclass(frozen=True)
class BackgroundWish:
    """The caller's wish for what stands behind the person.

    Attributes:
        kind: what kind.
        colour: name or #RRGGBB for COLOUR and GRADIENT.
        image: encoded picture for IMAGE.
    """

    kind: BackgroundKind
    colour: str = ""
    image: bytes = b""


@dataclass(frozen=True)
class RenditionRequest:
    """One file to make; zeros and empty strings take the preset's value."""

    name: str
    width: int = 0
    height: int = 0
    dpi: int = 0
    format: str = ""
    quality: int = 0
    cmyk: bool = False
    transparent: bool = False
    progressive: bool = False
    filename_template: str = ""


@dataclass(frozen=True)
class HeadshotOptions:
    """What a headshot shall look like.

    Attributes:
        style_id: empty for the default style.
        style_version: empty for the newest.
        background: None lets the style decide.
        renditions: empty for the style's own set.
        candidates: how many to make and choose from, 1 to 8.
        strength: above 0 to 1, None for the model's default.
        steps: 1 to 50, 0 for the model's default.
        seed: of the noise.
        retouch: none, light or standard; empty lets the style decide.
        allow_unverified: return the best candidate even when none was verified.
        include_intermediates: return the pictures from the way.
        previews: send a small picture with each step.
        no_degrade: refuse instead of degrading near the deadline.
        lift_dark_face: expose a person who stands in the dark, whatever it does to the skin's tone.
    """

    style_id: str = ""
    style_version: str = ""
    background: BackgroundWish | None = None
    renditions: tuple[RenditionRequest, ...] = ()
    candidates: int = 1
    strength: float | None = None
    steps: int = 0
    seed: int = 0
    retouch: str = ""
    allow_unverified: bool = False
    include_intermediates: bool = False
    previews: bool = False
    no_degrade: bool = False
    lift_dark_face: bool = False


@dataclass(frozen=True)
class HeadshotRequest:
    """One person's photos and wishes."""

    photos: tuple[PhotoInput, ...]
    options: HeadshotOptions = field(default_factory=HeadshotOptions)
    template: Template | None = None
