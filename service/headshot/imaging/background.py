"""Backgrounds: solid, gradient, the own scene out of focus, a given image, or chosen for the face.

`auto` follows the portrait photographer's rule of luminance contrast: light grey behind darker
complexions, medium to dark grey behind lighter ones, and white only where it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8, parse_hex, srgb_to_linear, to_lab
from headshot.imaging.enlarge import enlarged_block
from headshot.imaging.face import shape_of, skin_patches
from headshot.imaging.framing_model import Crop

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
_SCENE_SIDE = 192


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
        centre_colour: a gradient's colour behind the head; None lightens `colour` by 10 L*.
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
    """Median CIELAB colours of the subject: (L*, a*, b*) each; None where none was seen."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float] | None
    clothing: tuple[float, float, float] | None


@dataclass(frozen=True)
class BackgroundChoice:
    """A concrete background, why it was taken, and what to warn of."""

    spec: BackgroundSpec
    reason: str
    notes: tuple[BackgroundNote, ...]


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
    return SubjectTones(skin=skin_lab, hair=_median(image, hair), clothing=_median(image, clothing))


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


def warnings_for(colour: str, tones: SubjectTones) -> tuple[BackgroundNote, ...]:
    """Return what a background colour is too close to.

    Skin needs 12 L* of lightness contrast (at 32 px only lightness separates a face) unless the
    colours differ by 30 CIE76; hair and clothing need a CIE76 difference of 10.
    """
    lab = lab_of(colour)
    notes = []
    if abs(lab[0] - tones.skin[0]) < 12 and _distance(lab, tones.skin) < 30:
        notes.append(BackgroundNote.CLOSE_TO_SKIN)
    if tones.hair is not None and _distance(lab, tones.hair) < 10:
        notes.append(BackgroundNote.CLOSE_TO_HAIR)
    if tones.clothing is not None and _distance(lab, tones.clothing) < 10:
        notes.append(BackgroundNote.CLOSE_TO_CLOTHING)
    return tuple(notes)


def choose(spec: BackgroundSpec, tones: SubjectTones) -> BackgroundChoice:
    """Return the concrete background for this face, with the reason and warnings.

    Args:
        spec: as asked for; only kind `auto` leaves a choice.
        tones: of `measure_tones`.
    """
    if spec.kind in ("blur", "image"):
        return BackgroundChoice(spec, f"{spec.kind}, as asked for", ())
    if spec.kind != "auto":
        behind = _behind_head(spec)
        return BackgroundChoice(
            spec, f"{spec.kind} {spec.colour}, as asked for", warnings_for(behind, tones)
        )
    scored = sorted(spec.options, key=lambda option: -_score(option, tones))
    best = scored[0]
    lightness = lab_of(best)[0]
    side = "lighter" if lightness > tones.skin[0] else "darker"
    reason = (
        f"{best}: {abs(lightness - tones.skin[0]):.0f} L* {side} than the face "
        f"(L* {tones.skin[0]:.0f}), the clearest of {', '.join(spec.options)}"
    )
    chosen = replace(spec, kind="solid", colour=best)
    return BackgroundChoice(chosen, reason, warnings_for(best, tones))


def _behind_head(spec: BackgroundSpec) -> str:
    return spec.centre_colour or spec.colour if spec.kind == "gradient" else spec.colour


def _score(option: str, tones: SubjectTones) -> float:
    """Return how well an option sets this person off; skin first, then hair, then clothing."""
    lab = lab_of(option)
    contrast = min(abs(lab[0] - tones.skin[0]), 45.0)
    score = contrast
    # Beyond about 35 L* a darker ground swallows dark hair and a lighter one glares.
    if tones.hair is not None:
        score += 0.45 * min(_distance(lab, tones.hair), 25.0)
    if tones.clothing is not None:
        score += 0.3 * min(_distance(lab, tones.clothing), 20.0)
    # The rule of the trade: the ground lies on the other side of middle grey from the face.
    if (tones.skin[0] < 50) == (lab[0] > 60):
        score += 8.0
    return score - 12.0 * len(warnings_for(option, tones))


def render(
    spec: BackgroundSpec,
    size: tuple[int, int],
    *,
    scene: U8 | None = None,
    alpha: F32 | None = None,
    crop: Crop | None = None,
    canvas: int = 640,
    seed: int = 0,
) -> U8:
    """Draw a background.

    Args:
        spec: a concrete one (not `auto`; see `choose`).
        size: (width, height) to draw.
        scene: uint8 [s, s, 3], the portrait canvas at any resolution; needed by `blur`.
        alpha: float32 [s, s], its matte; needed by `blur`.
        crop: the part of the canvas that `size` shows, in pixels of `canvas`; None is all of it.
        canvas: side that `crop` counts in.
        seed: of the dither that keeps smooth tones from banding.

    Returns:
        uint8 [height, width, 3] sRGB.

    Raises:
        ValueError: `auto`, or `blur` without scene and matte.
    """
    width, height = size
    if spec.kind == "solid":
        row = np.tile(np.array(rgb_of(spec.colour), np.uint8), width)
        # Row by row: numpy fills a last axis of three many times slower.
        return np.tile(row, (height, 1)).reshape(height, width, 3)
    if spec.kind == "gradient":
        return _gradient(spec, size, seed)
    if spec.kind == "image":
        assert spec.image is not None
        return _cover(spec.image, size)
    if spec.kind == "blur":
        if scene is None or alpha is None:
            raise ValueError("a background of kind blur needs the scene and its matte")
        return _defocus(
            spec, size, scene, alpha, crop or Crop(0, 0, canvas, canvas, 1.0), canvas, seed
        )
    raise ValueError("choose() turns an auto background into a concrete one first")


def _gradient(spec: BackgroundSpec, size: tuple[int, int], seed: int) -> U8:
    width, height = size
    edge = np.array(lab_of(spec.colour), np.float32)
    if spec.centre_colour is None:
        centre = edge + np.array([10.0, 0, 0], np.float32)
        centre[0] = min(centre[0], 97.0)
    else:
        centre = np.array(lab_of(spec.centre_colour), np.float32)
    # The glow of one lamp on a paper roll: widest behind the head, falling off to the corners.
    w0, h0 = max(2, width // 8), max(2, height // 8)
    x = (np.arange(w0, dtype=np.float32) + 0.5) / w0 - 0.5
    y = (np.arange(h0, dtype=np.float32) + 0.5) / h0 - 0.42
    x = x * (width / height) ** 0.5
    falloff = np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / (2 * 0.36**2))[..., None]
    lab = edge + (centre - edge) * falloff
    small = cv2.cvtColor(np.asarray(lab, np.float32), cv2.COLOR_Lab2RGB) * 255
    return _dithered(np.asarray(small, np.float32), size, seed)


def _dithered(small: F32, size: tuple[int, int], seed: int) -> U8:
    """Return float sRGB 0..255 enlarged to size, with triangular noise against banding."""
    width, height = size
    rng = np.random.default_rng(seed)
    pair = rng.random((2, 256, 256, 1), np.float32)
    across = np.tile((pair[0] + pair[1] - 1.0) * 1.2, (1, -(-width // 256), 1))[:, :width]
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, 256):
        low = min(height, top + 256)
        band = enlarged_block(small, size, (0, top, width, low)) + across[: low - top]
        out[top:low] = cv2.convertScaleAbs(np.maximum(band, 0.0))
    return out


def _cover(image: U8, size: tuple[int, int]) -> U8:
    width, height = size
    scale = max(width / image.shape[1], height / image.shape[0])
    span = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grown = cv2.resize(image, span, interpolation=method)
    left, top = (span[0] - width) // 2, (span[1] - height) // 2
    return np.asarray(
        np.ascontiguousarray(grown[top : top + height, left : left + width]), np.uint8
    )


def _defocus(
    spec: BackgroundSpec,
    size: tuple[int, int],
    scene: U8,
    alpha: F32,
    crop: Crop,
    canvas: int,
    seed: int,
) -> U8:
    """Return the scene without the person, through a lens far out of focus."""
    side = _SCENE_SIDE
    small = srgb_to_linear(
        np.asarray(cv2.resize(scene, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    )
    person = cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA)
    # Well beyond the soft edge, so that no hair or skin tints the fill.
    grown = cv2.dilate(person, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13)))
    empty = _fill(small, np.asarray(grown < 0.02, np.float32))
    radius = spec.blur_radius * side
    margin = int(np.ceil(0.35 * side))
    padded = cv2.copyMakeBorder(empty, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    lens = _disc(radius)
    blurred = cv2.filter2D(padded, -1, lens, borderType=cv2.BORDER_REFLECT_101)
    # A second, smaller pass rounds the disc's edge: no outline of a lamp or a word survives.
    blurred = cv2.GaussianBlur(blurred, (0, 0), 0.45 * radius)
    scale = side / canvas
    w0 = max(8, min(400, round(crop.width * scale)))
    h0 = max(8, round(w0 * size[1] / size[0]))
    sx, sy = crop.width * scale / w0, crop.height * scale / h0
    matrix = np.array(
        [
            [sx, 0, crop.x0 * scale + margin + 0.5 * sx - 0.5],
            [0, sy, crop.y0 * scale + margin + 0.5 * sy - 0.5],
        ]
    )
    view = cv2.warpAffine(
        blurred,
        matrix,
        (w0, h0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    coded = 1.055 * np.maximum(view, 0.0031308) ** (1 / 2.4) - 0.055
    coded = np.where(view <= 0.0031308, view * 12.92, coded)
    return _dithered(np.asarray(coded * 255, np.float32), size, seed)


def _fill(image: F32, known: F32) -> F32:
    """Fill unknown pixels by push-pull: averages of known ones, coarse to fine (Gortler 1996)."""
    height, width = known.shape
    if min(height, width) <= 2 or known.all():
        total = max(float(known.sum()), 1e-6)
        mean = (image * known[..., None]).sum(axis=(0, 1)) / total
        return np.asarray(np.where(known[..., None] > 0, image, mean), np.float32)
    half = (max(1, width // 2), max(1, height // 2))
    weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA), np.float32)
    colour = cv2.resize(image * known[..., None], half, interpolation=cv2.INTER_AREA)
    colour = colour / np.maximum(weight, 1e-6)[..., None]
    coarse = _fill(np.asarray(colour, np.float32), np.asarray(weight > 0, np.float32))
    up = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(known[..., None] > 0, image, up), np.float32)


def _disc(radius: float) -> F32:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)


def recognisability(background: U8) -> float:
    """Return the detail left in a blurred background: RMS of L* above 1/24 of the width."""
    small = cv2.resize(background, (192, 192), interpolation=cv2.INTER_AREA)
    lightness = to_lab(np.asarray(small, np.uint8))[..., 0]
    low = cv2.GaussianBlur(lightness, (0, 0), 192 / 24 / 2)
    return float(np.sqrt(np.mean((lightness - low) ** 2)))


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
    "SubjectTones",
    "choose",
    "lab_of",
    "measure_tones",
    "options_of",
    "recognisability",
    "render",
    "rgb_of",
    "warnings_for",
]
