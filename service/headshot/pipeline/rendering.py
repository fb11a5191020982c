"""From the chosen candidate to composed pictures: tone, retouch, background, crops.

All of it is work on pixels without models, done on one thread for one headshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.errors import NoUsablePhotoError
from headshot.imaging import (
    backdrop,
    background,
    compose,
    edge_colour,
    foreground,
    framing,
    geometry,
    grain,
    retouch,
    skin,
    subject,
    tone,
)
from headshot.imaging import matte as mattes
from headshot.imaging.background import BackgroundNote, BackgroundSpec, SubjectTones
from headshot.imaging.edge_colour import EdgeColours
from headshot.imaging.foreground import Estimate
from headshot.imaging.framing import Crop, PortraitFrame
from headshot.imaging.grain import Grain
from headshot.imaging.matte import Guide, LinearMatte
from headshot.imaging.parts import SideBySide, both, one_by_one
from headshot.imaging.quality import Bounds, QualityReport, measure
from headshot.imaging.quality.team import MemberLook, look_of
from headshot.imaging.retouch import RetouchPlan
from headshot.imaging.tone import ToneSpec

Image = NDArray[np.uint8]
Alpha = NDArray[np.float32]

# Opacity of the photo's matte from which the person is expected, and how far around, over the
# canvas's side; how far around the person the edge is decided by colours.
_LIKELY, _AROUND = 0.5, 0.04
_EDGE = 0.025
# Side of the square in which a background that must be drawn to be known is looked at.
_GLANCE = 192
# Of the master's width: what is drawn smaller has another grain.
_SAME_SIZE = 0.95


@dataclass(frozen=True)
class Look:
    """What was measured and decided on the canvas once; any resolution is made from it.

    Attributes:
        matte: by the candidate's colours.
        table: uint8 [256, 3], the tone.
        retouch: None where nothing is retouched.
        colours: foreground and background colours along the edge.
        edge: what decides the edge by colour.
        temperature: CCT of the light after balancing, kelvin.
    """

    matte: LinearMatte
    table: NDArray[np.uint8]
    retouch: RetouchPlan | None
    colours: Estimate
    edge: EdgeColours
    temperature: float


@dataclass(frozen=True)
class Person:
    """The toned and cut-out person on the canvas, at a master resolution of s pixels a side.

    Attributes:
        colours: uint8 [s, s, 3] with cleaned edge colours.
        scene: uint8 [s, s, 3], the same canvas with its own background.
        alpha: float32 [s, s], opacity of the person, 0..1.
        frame: the plan of the canvas.
        grain: of the person.
        tones: skin, hair and clothing.
        look: what was decided about the person, for other resolutions.
    """

    colours: Image
    scene: Image
    alpha: Alpha
    frame: PortraitFrame
    grain: Grain
    tones: SubjectTones
    look: Look

    @property
    def side(self) -> int:
        """Side of the master in pixels."""
        return int(self.colours.shape[0])


def decide_matte(
    candidate: Image,
    alpha_small: Image,
    frame: PortraitFrame,
    opinion: Image | None = None,
    guide: Guide | None = None,
    side_by_side: SideBySide = one_by_one,
) -> LinearMatte:
    """Return what the network's matte of a candidate comes to.

    Arguments are as of `cut_person`; `opinion` is that of `imaging.subject.second_opinion`, `guide`
    what `imaging.matte.study` returned of the candidate, None to study it here.
    """
    face = frame.landmarks[2] * (alpha_small.shape[0] / frame.canvas)
    known = mattes.study(candidate) if guide is None else guide
    alpha, decided = subject.settle(alpha_small, known.picture, face, opinion, side_by_side)
    return mattes.fit(alpha, known, decided=decided, side_by_side=side_by_side)


def cut_person(
    candidate: Image,
    alpha_small: Image,
    frame: PortraitFrame,
    tone_spec: ToneSpec,
    retouch_level: str,
    photo: Image | None = None,
    matte: LinearMatte | None = None,
    side_by_side: SideBySide = one_by_one,
) -> Person:
    """Tone, retouch and cut out the person at canvas size.

    Args:
        candidate: uint8 [canvas, canvas, 3], the chosen candidate.
        alpha_small: uint8 [h, w], the candidate's matte at the network's resolution.
        frame: the plan of the canvas.
        tone_spec: targets of exposure, balance and contrast.
        retouch_level: none, light or standard.
        photo: uint8 [canvas, canvas, 3], the framed photo, whose skin tone is to be kept; None
            where the candidate is all there is.
        matte: of `decide_matte`, None to decide it here.
        side_by_side: does what does not need each other.

    Raises:
        NoUsablePhotoError: PERSON_NOT_SEPARATED, the matte leaves the face out.
    """
    matte = matte or decide_matte(candidate, alpha_small, frame, side_by_side=side_by_side)
    alpha = drawn = mattes.draw(matte, candidate, side_by_side)
    seen = None if photo is None else skin.read_skin(photo, frame.landmarks, alpha)
    toned, report = tone.adjust(candidate, frame.landmarks, alpha, tone_spec, seen)

    def measure_tones() -> SubjectTones:
        try:
            return background.measure_tones(toned, frame.landmarks, drawn)
        except ValueError:
            raise NoUsablePhotoError(
                "the person could not be told from the background; send a photo with more light "
                "and a plainer background",
                reason="PERSON_NOT_SEPARATED",
            ) from None

    tones, (scene, retouched) = both(
        side_by_side,
        measure_tones,
        lambda: retouch.apply(toned, frame.landmarks, retouch_level),
    )
    lines: edge_colour.Lines = {}
    alpha, edge = edge_colour.settle(scene, alpha, side_by_side, lines)
    alpha = framing.limit_to_photo(alpha, frame)
    small = foreground.coarse(scene, alpha, side_by_side)

    def clean() -> Image:
        colours = foreground.correct(scene, alpha, small, side_by_side)
        return edge_colour.take_off_rim(colours, edge, side_by_side, lines)

    colours, noise = both(side_by_side, clean, lambda: grain.measure(scene, alpha))
    return Person(
        colours=colours,
        scene=scene,
        alpha=alpha,
        frame=frame,
        grain=noise,
        tones=tones,
        look=Look(matte, report.table, retouched.plan, small, edge, report.cct_after),
    )


def enlarge_person(
    person: Person, enlarged: Image, side: int, side_by_side: SideBySide = one_by_one
) -> Person:
    """Return the same person at a larger size: nothing is measured or decided again.

    Args:
        person: at canvas size.
        enlarged: uint8 [n canvas, n canvas, 3], the candidate enlarged.
        side: wanted side of the master in pixels, at most that of `enlarged`.
        side_by_side: does parts of the picture.
    """
    look = person.look
    master = geometry.resize(enlarged, (side, side))
    scene, alpha = both(
        side_by_side,
        lambda: retouch.repeat(tone.apply_table(master, look.table), look.retouch),
        lambda: mattes.draw(look.matte, master),
    )
    lines: edge_colour.Lines = {}
    alpha = edge_colour.decide(scene, alpha, look.edge, side_by_side, lines)
    alpha = framing.limit_to_photo(alpha, person.frame)

    def clean() -> Image:
        colours = foreground.correct(scene, alpha, look.colours, side_by_side)
        return edge_colour.take_off_rim(colours, look.edge, side_by_side, lines)

    colours, noise = both(side_by_side, clean, lambda: grain.measure(scene, alpha))
    return replace(person, colours=colours, scene=scene, alpha=alpha, grain=noise)


def likely_part(opinion: Image, canvas: int) -> NDArray[np.bool_]:
    """Return bool [canvas, canvas]: where the photo's matte lets expect `visible_part`.

    Args:
        opinion: uint8 [h, w], of `imaging.subject.second_opinion`.
        canvas: side of the canvas, pixels.
    """
    alpha = cv2.resize(opinion, (canvas, canvas), interpolation=cv2.INTER_LINEAR)
    return _grown(alpha > 255 * _LIKELY, round(_AROUND * canvas))


def visible_part(person: Person) -> NDArray[np.bool_]:
    """Return bool [canvas, canvas]: where the canvas's own pixels may be seen in a picture.

    The person at canvas size and what the edge at a larger size is decided from; elsewhere only a
    new background is seen.
    """
    return _grown(person.alpha > 0, round(_EDGE * person.side))


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0, bool)


def plan_crops(person: Person, aspects: set[float]) -> dict[float, Crop]:
    """Return the crop of each aspect (width over height)."""
    return {
        aspect: framing.plan_crop(person.frame, person.alpha, aspect) for aspect in sorted(aspects)
    }


def ground_notes(person: Person, crop: Crop, spec: BackgroundSpec) -> tuple[BackgroundNote, ...]:
    """Return what of the person a `blur` or `image` background is too close to.

    Args:
        person: at canvas size.
        crop: the square of `plan_crop`.
        spec: a concrete background.
    """
    size, canvas = (_GLANCE, _GLANCE), person.frame.canvas
    _, alpha = compose.place(person.colours, person.alpha, crop, size, canvas=canvas)
    ground = backdrop.render(
        spec, size, scene=person.scene, alpha=person.alpha, crop=crop, canvas=canvas
    )
    landmarks = geometry.apply_transform(crop.matrix(size), person.frame.landmarks)
    return background.warnings_for(
        background.measure_ground(ground, landmarks, alpha), person.tones
    )


def compose_crop(
    person: Person,
    crop: Crop,
    size: tuple[int, int],
    spec: BackgroundSpec,
    seed: int,
    light_wrap: float,
    side_by_side: SideBySide = one_by_one,
) -> Image:
    """Return one crop on its background, uint8 [h, w, 3].

    Args:
        person: of `cut_person`.
        crop: of `plan_crops`.
        size: (width, height) in pixels, of the crop's aspect.
        spec: a concrete background.
        seed: of dither and grain.
        light_wrap: strength of the background's light on the person's edge.
        side_by_side: does parts of the picture.
    """
    canvas = person.frame.canvas
    colours, alpha = compose.place(person.colours, person.alpha, crop, size, canvas=canvas)
    ground = backdrop.render(
        spec,
        size,
        scene=person.scene,
        alpha=person.alpha,
        crop=crop,
        canvas=canvas,
        seed=seed,
    )
    # Drawn smaller than the master, noise averages out: the ground has to match what is left.
    reduced = size[0] < _SAME_SIZE * crop.width * person.side / canvas
    noise = grain.measure(colours, alpha) if reduced else person.grain
    if spec.kind == "image":
        noise = grain.missing(noise, grain.measure(ground))
    return compose.composite(
        colours,
        alpha,
        ground,
        wrap=light_wrap,
        grain=noise,
        seed=seed,
        side_by_side=side_by_side,
    )


def cut_out_crop(person: Person, crop: Crop, size: tuple[int, int]) -> Image:
    """Return one crop without a background, uint8 [h, w, 4]; what is transparent is black."""
    colours, alpha = compose.place(
        person.colours, person.alpha, crop, size, canvas=person.frame.canvas
    )
    return compose.cut_out(colours, np.rint(alpha * 255).astype(np.uint8))


def look_in_team(person: Person, square: Image, crop: Crop) -> MemberLook:
    """Return what a viewer compares across a team page.

    Args:
        person: at canvas size.
        square: uint8 [h, w, 3], of `compose_crop`.
        crop: what it shows of the canvas.
    """
    size = (square.shape[1], square.shape[0])
    _, alpha = compose.place(person.colours, person.alpha, crop, size, canvas=person.frame.canvas)
    landmarks = geometry.apply_transform(crop.matrix(size), person.frame.landmarks)
    return look_of(square, landmarks, alpha, person.look.temperature)


def judge(
    person: Person,
    square: Image,
    crop: Crop,
    spec: BackgroundSpec,
    reference: Image,
    similarity: float,
    threshold: float,
    bounds: Mapping[str, Bounds],
    seed: int,
    second: tuple[float, float] | None = None,
) -> QualityReport:
    """Measure the composed square.

    Args:
        person: at canvas size.
        square: uint8 [h, w, 3], of `compose_crop`.
        crop: what it shows of the canvas.
        spec: its background.
        reference: uint8 [canvas, canvas, 3], the framed photo.
        similarity: of the square to the person's template.
        threshold: of the recogniser.
        bounds: what the style asks for.
        seed: of dither.
        second: similarity and threshold of a second recogniser, where one is served.
    """
    size = (square.shape[1], square.shape[0])
    canvas = person.frame.canvas
    _, alpha = compose.place(person.colours, person.alpha, crop, size, canvas=canvas)
    matrix = crop.matrix(size)
    # The photo is turned, never stretched: one column tells the scale.
    on_canvas = float(np.hypot(*person.frame.matrix[:, 0]))
    same = spec.kind == "blur"
    ground = None if same else backdrop.render(spec, size, seed=seed)
    return measure(
        square,
        reference=geometry.warp(reference, matrix, size, "replicate"),
        landmarks=geometry.apply_transform(matrix, person.frame.landmarks),
        alpha=alpha,
        background=ground,
        similarity=similarity,
        threshold=threshold,
        second_similarity=second[0] if second else None,
        second_threshold=second[1] if second else None,
        enlargement=on_canvas * float(matrix[0, 0]),
        bounds=bounds,
        circle_margin=person.frame.spec.circle_margin,
    )
