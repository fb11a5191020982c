"""What is wrong with each photo, and what a set of photos lacks: codes and plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from headshot.imaging.face import shape_of
from headshot.imaging.framing_model import FramingSpec
from headshot.pipeline.photo_facts import PhotoFacts, measure_photo, perceptual_hash

# In face units: what is above the hairline.
_CROWN_TO_HAIRLINE = 0.75


class PhotoCode(StrEnum):
    """A photo's verdict or concern; the names of headshot.v1.PhotoCode."""

    OK = "OK"
    UNREADABLE = "UNREADABLE"
    TOO_LARGE = "TOO_LARGE"
    NO_FACE = "NO_FACE"
    SEVERAL_FACES = "SEVERAL_FACES"
    FACE_TOO_SMALL = "FACE_TOO_SMALL"
    BLURRED = "BLURRED"
    POSE_TOO_STRONG = "POSE_TOO_STRONG"
    TOO_DARK = "TOO_DARK"
    TOO_BRIGHT = "TOO_BRIGHT"
    OTHER_PERSON = "OTHER_PERSON"
    DUPLICATE = "DUPLICATE"
    FILTERED = "FILTERED"
    GLARE = "GLARE"
    UNEVEN_LIGHT = "UNEVEN_LIGHT"


class SetCode(StrEnum):
    """What a set of photos lacks."""

    TOO_FEW_PHOTOS = "TOO_FEW_PHOTOS"
    NO_FRONTAL_PHOTO = "NO_FRONTAL_PHOTO"
    NO_WELL_LIT_PHOTO = "NO_WELL_LIT_PHOTO"
    NO_SHARP_PHOTO = "NO_SHARP_PHOTO"
    NO_SHOULDERS = "NO_SHOULDERS"
    DIFFERENT_PEOPLE = "DIFFERENT_PEOPLE"
    DUPLICATES = "DUPLICATES"


ADVICE: dict[PhotoCode, str] = {
    PhotoCode.OK: "This photo is good.",
    PhotoCode.UNREADABLE: (
        "The file could not be read as a photo; send a JPEG, PNG, WebP, HEIC, AVIF or TIFF."
    ),
    PhotoCode.TOO_LARGE: "The photo has more bytes or pixels than are allowed; send a smaller one.",
    PhotoCode.NO_FACE: "No face was found; take the photo at arm's length with the face in view.",
    PhotoCode.SEVERAL_FACES: "There are several faces; crop to one person or point at the face.",
    PhotoCode.FACE_TOO_SMALL: "The face is too small; come closer or crop the original photo.",
    PhotoCode.BLURRED: "The face is not sharp; hold the camera still and clean its lens.",
    PhotoCode.POSE_TOO_STRONG: "The head is turned or tilted too far; look straight at the camera.",
    PhotoCode.TOO_DARK: "The face is too dark; face a window or turn on a light before you.",
    PhotoCode.TOO_BRIGHT: "The face is burnt out; step out of direct sun or flash.",
    PhotoCode.OTHER_PERSON: "This seems to be another person than in the other photos.",
    PhotoCode.DUPLICATE: "This is the same picture as another one; send a different one.",
    PhotoCode.FILTERED: "The skin looks smoothed by a filter; turn beauty mode off.",
    PhotoCode.GLARE: "Light reflects in the glasses; tilt them or move the lamp.",
    PhotoCode.UNEVEN_LIGHT: "One side of the face is much darker; turn towards the light.",
}

SET_ADVICE: dict[SetCode, str] = {
    SetCode.TOO_FEW_PHOTOS: "Send at least three usable photos; the likeness gets surer with each.",
    SetCode.NO_FRONTAL_PHOTO: "No photo looks straight into the camera; add one.",
    SetCode.NO_WELL_LIT_PHOTO: "No photo is evenly lit; add one that faces a window.",
    SetCode.NO_SHARP_PHOTO: "No photo is really sharp; add one from the main camera of the phone.",
    SetCode.NO_SHOULDERS: "Every photo ends at the neck; add one that shows the shoulders.",
    SetCode.DIFFERENT_PEOPLE: "The photos seem to show different people; send one person's only.",
    SetCode.DUPLICATES: "Some photos are copies of each other; different ones help more.",
}

# Where a template tells who the person is: it may be the one that is wrong.
_BY_TEMPLATE = {
    PhotoCode.OTHER_PERSON: "This seems to be another person than the identity template's.",
}
_SET_BY_TEMPLATE = {
    SetCode.DIFFERENT_PEOPLE: (
        "Some photos seem to show another person than the identity template's; send one person's"
        " only."
    ),
}


@dataclass(frozen=True)
class Limits:
    """Where a photo is left out (hard) and where it is only told (soft)."""

    min_inter_eye: float = 32.0
    low_inter_eye: float = 80.0
    min_sharpness: float = 3.2
    low_sharpness: float = 6.0
    max_yaw: float = 38.0
    high_yaw: float = 20.0
    max_pitch: float = 40.0
    high_pitch: float = 27.0
    max_roll: float = 40.0
    high_roll: float = 18.0
    min_luminance: float = 0.012
    max_burnt: float = 0.40
    high_burnt: float = 0.12
    low_detail: float = 0.22
    high_glare: float = 0.05
    low_uniformity: float = 0.12
    frontal_yaw: float = 14.0
    frontal_pitch: float = 24.0
    frontal_roll: float = 20.0
    dark_share: float = 0.7
    shoulders: float = 0.9
    enough_photos: int = 3
    same_picture_bits: int = 5


@dataclass(frozen=True)
class Assessment:
    """The verdict on one photo.

    Attributes:
        code: OK, or the first reason to leave it out.
        concerns: what else is wrong, without leaving it out.
        advice: a plain sentence for each.
        weight: 0..1, what it should count in a template; 0 where it is left out.
    """

    code: PhotoCode
    concerns: tuple[PhotoCode, ...]
    advice: tuple[str, ...]
    weight: float

    @property
    def usable(self) -> bool:
        """Whether the photo may be used."""
        return self.code is PhotoCode.OK


@dataclass(frozen=True)
class SetAdvice:
    """One thing that a set of photos lacks."""

    code: str
    message: str


def assess(
    facts: PhotoFacts, limits: Limits | None = None, *, by_template: bool = False
) -> Assessment:
    """Return the verdict on one photo.

    Args:
        facts: of `measure_photo`, with the similarity filled in where it is known.
        limits: where photos are left out.
        by_template: the similarity is to a template that the caller sent, not to other photos.
    """
    limits = limits or Limits()
    sentences = {**ADVICE, **_BY_TEMPLATE} if by_template else ADVICE
    if facts.landmarks is None:
        code = PhotoCode.SEVERAL_FACES if facts.faces > 1 else PhotoCode.NO_FACE
        return Assessment(code, (), (sentences[code],), 0.0)
    hard = _hard(facts, limits)
    soft = tuple(code for code in _soft(facts, limits) if code not in hard)
    if hard:
        told = (*hard[1:], *soft)
        return Assessment(hard[0], told, tuple(sentences[c] for c in (hard[0], *told)), 0.0)
    advice = tuple(sentences[code] for code in soft)
    return Assessment(PhotoCode.OK, soft, advice, _weight(facts, limits))


def _hard(facts: PhotoFacts, limits: Limits) -> tuple[PhotoCode, ...]:
    assert facts.angles is not None
    assert facts.light is not None
    checks = (
        # First: who was compared was not kept from it by what else is wrong.
        (
            facts.similarity is not None and facts.similarity < facts.threshold,
            PhotoCode.OTHER_PERSON,
        ),
        (facts.inter_eye < limits.min_inter_eye, PhotoCode.FACE_TOO_SMALL),
        (facts.sharpness < limits.min_sharpness, PhotoCode.BLURRED),
        (
            abs(facts.angles.yaw) > limits.max_yaw
            or abs(facts.angles.pitch) > limits.max_pitch
            or abs(facts.angles.roll) > limits.max_roll,
            PhotoCode.POSE_TOO_STRONG,
        ),
        (facts.light.mean.value < limits.min_luminance, PhotoCode.TOO_DARK),
        (facts.light.over_exposure.value > limits.max_burnt, PhotoCode.TOO_BRIGHT),
    )
    return tuple(code for failed, code in checks if failed)


def _soft(facts: PhotoFacts, limits: Limits) -> tuple[PhotoCode, ...]:
    assert facts.angles is not None
    assert facts.light is not None
    light = facts.light
    smooth = facts.skin_detail is not None and facts.skin_detail < limits.low_detail
    checks = (
        (facts.inter_eye < limits.low_inter_eye, PhotoCode.FACE_TOO_SMALL),
        (facts.sharpness < limits.low_sharpness, PhotoCode.BLURRED),
        (
            abs(facts.angles.yaw) > limits.high_yaw
            or abs(facts.angles.pitch) > limits.high_pitch
            # What framing cannot level: the headshot comes out askew.
            or abs(facts.angles.roll) > limits.high_roll,
            PhotoCode.POSE_TOO_STRONG,
        ),
        # A dark complexion in good light has highlights; a face in the dark has none.
        (
            light.under_exposure.value > limits.dark_share and not light.lit,
            PhotoCode.TOO_DARK,
        ),
        (light.over_exposure.value > limits.high_burnt, PhotoCode.TOO_BRIGHT),
        # Sharp features with skin that has no texture: a filter. Both soft: blur.
        (smooth and facts.sharpness >= limits.low_sharpness, PhotoCode.FILTERED),
        (facts.glare > limits.high_glare, PhotoCode.GLARE),
        (light.uniformity.value < limits.low_uniformity, PhotoCode.UNEVEN_LIGHT),
    )
    return tuple(code for failed, code in checks if failed)


def _weight(facts: PhotoFacts, limits: Limits) -> float:
    """Return 0.05..1: frontal, sharp, large, well-lit faces count most."""
    assert facts.angles is not None
    assert facts.light is not None
    pose = np.cos(np.radians(facts.angles.yaw)) * np.cos(np.radians(facts.angles.pitch))
    # A little tilt is levelled and costs nothing.
    askew = max(0.0, abs(facts.angles.roll) - FramingSpec.max_roll)
    level = np.cos(np.radians(min(90.0, 2 * askew)))
    sharp = min(1.0, facts.sharpness / (2 * limits.low_sharpness))
    large = min(1.0, facts.inter_eye / limits.low_inter_eye)
    dark = max(0.0, facts.light.under_exposure.value - limits.dark_share) / (1 - limits.dark_share)
    lit = 1.0 - 0.5 * dark - 0.5 * min(1.0, facts.light.over_exposure.value / limits.max_burnt)
    looks = pose**2 * level * (0.3 + 0.7 * sharp) * (0.4 + 0.6 * large)
    return float(np.clip(looks * lit, 0.05, 1.0))


def framing_share(facts: PhotoFacts, limits: Limits | None = None) -> float:
    """Return 0.09..1: how much of head and shoulders the photo holds, 1 where it lacks nothing.

    For the choice of the photo that a headshot is made from; a recogniser needs the face only.
    """
    limits = limits or Limits()
    below = float(np.clip(facts.room_below / limits.shoulders, 0.0, 1.0))
    above = float(np.clip(1.0 + facts.room_above / _CROWN_TO_HAIRLINE, 0.0, 1.0))
    return (0.3 + 0.7 * below) * (0.3 + 0.7 * above)


def duplicates(facts: Sequence[PhotoFacts], limits: Limits | None = None) -> frozenset[int]:
    """Return the indices of photos that repeat an earlier one of the sequence.

    Two photos are one when their hashes differ in at most `same_picture_bits` of 64 and the face
    sits at the same place: a burst of selfies, or one file saved twice.
    """
    limits = limits or Limits()
    again = set()
    for (i, first), (j, second) in combinations(enumerate(facts), 2):
        if i in again:
            continue
        bits = (first.picture_hash ^ second.picture_hash).bit_count()
        if bits <= limits.same_picture_bits and _same_place(first, second):
            again.add(j)
    return frozenset(again)


def _same_place(first: PhotoFacts, second: PhotoFacts) -> bool:
    if first.landmarks is None or second.landmarks is None:
        return first.landmarks is None and second.landmarks is None
    a = np.asarray(first.landmarks, np.float64) / first.size[0]
    b = np.asarray(second.landmarks, np.float64) / second.size[0]
    unit = shape_of(a).scale
    return bool(np.abs(a - b).max() < 0.06 * unit)


def review(
    facts: Sequence[PhotoFacts],
    assessments: Sequence[Assessment],
    limits: Limits | None = None,
    *,
    by_template: bool = False,
) -> tuple[SetAdvice, ...]:
    """Return what the set lacks, the most important first.

    Args:
        facts: of every photo.
        assessments: of the same photos, in the same order.
        limits: what is enough.
        by_template: a template that the caller sent tells who the person is.
    """
    limits = limits or Limits()
    sentences = {**SET_ADVICE, **_SET_BY_TEMPLATE} if by_template else SET_ADVICE
    codes = [item.code for item in assessments]
    used = [f for f, item in zip(facts, assessments, strict=True) if item.usable]
    missing: list[SetCode] = []
    if PhotoCode.OTHER_PERSON in codes:
        missing.append(SetCode.DIFFERENT_PEOPLE)
    if len(used) < limits.enough_photos:
        missing.append(SetCode.TOO_FEW_PHOTOS)
    if used:
        missing += _lacking(used, limits)
    if PhotoCode.DUPLICATE in codes:
        missing.append(SetCode.DUPLICATES)
    return tuple(SetAdvice(code.value, sentences[code]) for code in missing)


def _lacking(used: Sequence[PhotoFacts], limits: Limits) -> list[SetCode]:
    def frontal(photo: PhotoFacts) -> bool:
        return (
            photo.angles is not None
            and abs(photo.angles.yaw) <= limits.frontal_yaw
            and abs(photo.angles.pitch) <= limits.frontal_pitch
            and abs(photo.angles.roll) <= limits.frontal_roll
        )

    def well_lit(photo: PhotoFacts) -> bool:
        return not {PhotoCode.TOO_DARK, PhotoCode.TOO_BRIGHT, PhotoCode.UNEVEN_LIGHT} & set(
            _soft(photo, limits)
        )

    checks = (
        (any(frontal(photo) for photo in used), SetCode.NO_FRONTAL_PHOTO),
        (any(well_lit(photo) for photo in used), SetCode.NO_WELL_LIT_PHOTO),
        (any(photo.sharpness >= limits.low_sharpness for photo in used), SetCode.NO_SHARP_PHOTO),
        # Shoulders need about one face unit below the chin.
        (any(photo.room_below >= limits.shoulders for photo in used), SetCode.NO_SHOULDERS),
    )
    return [code for there, code in checks if not there]


def mark_duplicates(
    assessments: Sequence[Assessment], again: frozenset[int]
) -> tuple[Assessment, ...]:
    """Return the assessments with usable repeats turned into DUPLICATE."""
    return tuple(
        Assessment(PhotoCode.DUPLICATE, item.concerns, (ADVICE[PhotoCode.DUPLICATE],), 0.0)
        if index in again and item.usable
        else item
        for index, item in enumerate(assessments)
    )


__all__ = [
    "ADVICE",
    "SET_ADVICE",
    "Assessment",
    "Limits",
    "PhotoCode",
    "PhotoFacts",
    "SetAdvice",
    "SetCode",
    "assess",
    "duplicates",
    "framing_share",
    "mark_duplicates",
    "measure_photo",
    "perceptual_hash",
    "review",
]
