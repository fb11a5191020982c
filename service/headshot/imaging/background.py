"""Which background: solid, gradient, the own scene out of focus, an image, or chosen for the face.

`auto` follows the portrait photographer's rule of luminance contrast: light grey behind darker
complexions, medium to dark grey behind lighter ones, and white only where it was asked for. Whom
the light missed has no darker complexion: before a bright ground that person would look cut out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8, luma, parse_hex, to_lab
from headshot.imaging.face import shape_of, skin_patches
from headshot.imaging.tone import IN_THE_DARK, percentile

Kind = Literal["solid", "gradient", "blur", "image", "auto"]

NAMED: dict[str, str] = {
    "grey": "#808080",
    "medium-grey": "#808080",
    "light-grey": "#C9CBCC",
    "off-white": "#F4F2EE",
    "white": "#FFFFFF",
    "charcoal": "#36393D",
    "dark-grey": "#4A4D51",
    "navy": "#1F2E4A",
}
AUTO_OPTIONS = ("light-grey", "grey", "dark-grey")
_LOW_KEY = 24.0
"""L* between ground and face of a person in the dark: enough at 32 px, and one light's doing."""
_BESIDE = 0.6
"""Face units around a person in which a background is compared with the person."""
# By how much a gradient's middle is lighter than its edge, L*, and the lightest it becomes.
_GLOW, _LIGHTEST = 10.0, 97.0


class BackgroundNote(StrEnum):
    """What is wrong between a background and the subject."""

    CLOSE_TO_SKIN = "BACKGROUND_CLOSE_TO_SKIN"
    CLOSE_TO_HAIR = "BACKGROUND_CLOSE_TO_HAIR"
    CLOSE_TO_CLOTHING = "BACKGROUND_CLOSE_TO_CLOTHING"


@dataclass(frozen=True)
class BackgroundSpec:
    """One background.

    Attributes:
        kind: what to draw.
        colour: a name of NAMED or "#RRGGBB"; the edge colour of a gradient.
        centre_colour: a gradient's colour behind the head; None lightens `colour` by 10 L*, to
            97 at most.
        blur_radius: radius of the lens disc over the scene's side, for `blur`.
        options: names or colours that `auto` may choose from.
        image: uint8 [h, w, 3] sRGB, for `image`; scaled to cover, never stretched.
    """

    kind: Kind = "solid"
    colour: str = "grey"
    centre_colour: str | None = None
    blur_radius: float = 0.085
    options: tuple[str, ...] = AUTO_OPTIONS
    image: U8 | None = None

    def __post_init__(self) -> None:
        for name in (self.colour, self.centre_colour, *self.options):
            if name is not None:
                rgb_of(name)
        if not 0.04 <= self.blur_radius <= 0.25:
            raise ValueError(
                "blur_radius must be in 0.04..0.25: less leaves the scene recognisable"
            )
        if self.kind == "image" and self.image is None:
            raise ValueError("a background of kind image needs an image")


@dataclass(frozen=True)
class SubjectTones:
    """Median CIELAB colours of the subject: (L*, a*, b*) each; None where none was seen.

    Attributes:
        skin: of forehead and cheeks.
        hair: above the face.
        clothing: below the chin.
        in_the_dark: nothing on the person is bright, so the light was elsewhere.
    """

    skin: tuple[float, float, float]
    hair: tuple[float, float, float] | None
    clothing: tuple[float, float, float] | None
    in_the_dark: bool = False


@dataclass(frozen=True)
class GroundTones:
    """CIELAB colours of a background: (L*, a*, b*) each.

    Attributes:
        head: beside the head; None where nothing of it is seen there.
        body: beside the clothing; None the same.
    """

    head: tuple[float, float, float] | None
    body: tuple[float, float, float] | None

    @classmethod
    def of(cls, spec: BackgroundSpec) -> GroundTones:
        """Return those of a solid or a gradient, which lights up behind the head only."""
        edge = lab_of(spec.colour)
        return cls(gradient_centre(spec) if spec.kind == "gradient" else edge, edge)


@dataclass(frozen=True)
class BackgroundChoice:
    """A concrete background, why it was taken, and what to warn of."""

    spec: BackgroundSpec
    reason: str
    notes: tuple[BackgroundNote, ...]

    @property
    def told(self) -> str:
        """The background and the reason for it in words, as callers see it."""
        colour = f":{self.spec.colour}" if self.spec.kind in ("solid", "gradient") else ""
        return f"{self.spec.kind}{colour} ({self.reason})"


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Return (r, g, b) of a name or "#RRGGBB"; ValueError names the known names."""
    if colour in NAMED:
        return parse_hex(NAMED[colour])
    if colour.startswith("#"):
        return parse_hex(colour)
    raise ValueError(f"unknown colour {colour!r}: use #RRGGBB or one of {', '.join(NAMED)}")


def lab_of(colour: str) -> tuple[float, float, float]:
    """Return (L*, a*, b*) of a name or "#RRGGBB"."""
    lightness, a, b = to_lab(np.array([rgb_of(colour)], np.uint8))[0]
    return float(lightness), float(a), float(b)


def measure_tones(image: U8, landmarks: F32, alpha: F32) -> SubjectTones:
    """Return the subject's skin, hair and clothing colours.

    Args:
        image: uint8 [h, w, 3].
        landmarks: float32 [5, 2] in its pixels.
        alpha: float32 [h, w] matte.
    """
    height, width = alpha.shape
    face = shape_of(landmarks)
    solid = alpha > 0.9
    rows = np.arange(height)[:, None]
    columns = np.arange(width)[None, :]
    skin = (skin_patches(landmarks, (width, height)) > 0) & solid
    near = np.abs(columns - face.eyes[0]) < 1.5 * face.scale
    hair = solid & near & (rows < face.eyes[1] - 1.25 * face.scale)
    clothing = solid & (rows > face.chin_y + 0.9 * face.scale)
    skin_lab = _median(image, skin)
    if skin_lab is None:
        raise ValueError("no skin inside the matte: landmarks and alpha do not belong together")
    return SubjectTones(
        skin=skin_lab,
        hair=_median(image, hair),
        clothing=_median(image, clothing),
        in_the_dark=percentile(luma(image)[solid], 99) < IN_THE_DARK,
    )


def measure_ground(ground: U8, landmarks: F32, alpha: F32) -> GroundTones:
    """Return the colours of a drawn background where it borders on the person.

    Args:
        ground: uint8 [h, w, 3], the background alone.
        landmarks: [5, 2], the person's in its pixels.
        alpha: float32 [h, w], the person's matte.
    """
    face = shape_of(landmarks)
    rows = np.arange(alpha.shape[0])[:, None]
    free = alpha < 0.1
    reach = 2 * max(1, round(_BESIDE * face.scale)) + 1
    beside = free & (cv2.dilate(alpha, np.ones((reach, reach), np.uint8)) > 0.5)
    return GroundTones(
        head=_median(ground, beside & (rows < face.chin_y)),
        body=_median(ground, beside & (rows > face.chin_y)),
    )


def _median(image: U8, mask: np.ndarray) -> tuple[float, float, float] | None:
    places = np.flatnonzero(mask)
    if places.size < 40:
        return None
    # Planes: the median of what lies together takes a fraction of the time.
    planes = np.ascontiguousarray(to_lab(image.reshape(-1, 3).take(places, axis=0)).T)
    lightness, a, b = (float(np.median(plane)) for plane in planes)
    return lightness, a, b


def _distance(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    return float(np.linalg.norm(np.subtract(first, second)))


def warnings_for(ground: str | GroundTones, tones: SubjectTones) -> tuple[BackgroundNote, ...]:
    """Return what a background is too close to: one colour, or its tones where it has several.

    Skin needs 12 L* of lightness contrast (at 32 px only lightness separates a face) unless the
    colours differ by 30 CIE76; hair and clothing need a CIE76 difference of 10.
    """
    if isinstance(ground, str):
        ground = GroundTones(lab_of(ground), lab_of(ground))
    head, body = ground.head, ground.body
    notes = []
    if head is not None and abs(head[0] - tones.skin[0]) < 12 and _distance(head, tones.skin) < 30:
        notes.append(BackgroundNote.CLOSE_TO_SKIN)
    if _alike(head, tones.hair):
        notes.append(BackgroundNote.CLOSE_TO_HAIR)
    if _alike(body, tones.clothing):
        notes.append(BackgroundNote.CLOSE_TO_CLOTHING)
    return tuple(notes)


def _alike(
    first: tuple[float, float, float] | None, second: tuple[float, float, float] | None
) -> bool:
    return first is not None and second is not None and _distance(first, second) < 10


def choose(spec: BackgroundSpec, tones: SubjectTones) -> BackgroundChoice:
    """Return the concrete background for this face, with the reason and warnings.

    Args:
        spec: as asked for; only kind `auto` leaves a choice. Of `blur` and `image` nothing is known
            before they are drawn: `measure_ground` and `warnings_for` tell.
        tones: of `measure_tones`.
    """
    if spec.kind in ("blur", "image"):
        return BackgroundChoice(spec, "as asked for", ())
    if spec.kind != "auto":
        notes = warnings_for(GroundTones.of(spec), tones)
        return BackgroundChoice(spec, "as asked for", notes)
    scored = sorted(spec.options, key=lambda option: -_score(option, tones))
    best = scored[0]
    lightness = lab_of(best)[0]
    side = "lighter" if lightness > tones.skin[0] else "darker"
    why = "the nearest to the light on this face" if tones.in_the_dark else "the clearest"
    reason = (
        f"{best}: {abs(lightness - tones.skin[0]):.0f} L* {side} than the face "
        f"(L* {tones.skin[0]:.0f}), {why} of {', '.join(spec.options)}"
    )
    chosen = replace(spec, kind="solid", colour=best)
    return BackgroundChoice(chosen, reason, warnings_for(best, tones))


def gradient_centre(spec: BackgroundSpec) -> tuple[float, float, float]:
    """Return (L*, a*, b*) in the middle of a gradient: its own, or lighter than the edge."""
    if spec.centre_colour is not None:
        return lab_of(spec.centre_colour)
    lightness, a, b = lab_of(spec.colour)
    # A colour lighter than that stays as it is: a glow never darkens.
    return max(lightness, min(lightness + _GLOW, _LIGHTEST)), a, b


def _score(option: str, tones: SubjectTones) -> float:
    """Return how well an option sets this person off; skin first, then hair, then clothing."""
    lab = lab_of(option)
    apart = abs(lab[0] - tones.skin[0])
    if tones.in_the_dark:
        return -abs(apart - _LOW_KEY) - 12.0 * len(warnings_for(option, tones))
    score = min(apart, 45.0)
    # Beyond about 35 L* a darker ground swallows dark hair and a lighter one glares.
    if tones.hair is not None:
        score += 0.45 * min(_distance(lab, tones.hair), 25.0)
    if tones.clothing is not None:
        score += 0.3 * min(_distance(lab, tones.clothing), 20.0)
    # The rule of the trade: the ground lies on the other side of middle grey from the face.
    if (tones.skin[0] < 50) == (lab[0] > 60):
        score += 8.0
    return score - 12.0 * len(warnings_for(option, tones))


def options_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return names checked as colours; ValueError on an unknown one."""
    for name in names:
        rgb_of(name)
    return tuple(names)


__all__ = [
    "NAMED",
    "BackgroundChoice",
    "BackgroundNote",
    "BackgroundSpec",
    "GroundTones",
    "SubjectTones",
    "choose",
    "lab_of",
    "measure_ground",
    "measure_tones",
    "options_of",
    "rgb_of",
    "warnings_for",
]
