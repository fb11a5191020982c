"""Do the headshots of a team belong together: eye line, head size, background, light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8, to_lab
from headshot.imaging.face import shape_of

EYE_LINE_TOLERANCE = 0.02
HEAD_SIZE_TOLERANCE = 0.02
BACKGROUND_TOLERANCE = 2.0
TEMPERATURE_TOLERANCE = 200.0

# Members around whom a largest group is looked for, so that a large team takes no long time.
_STARTS = 16


@dataclass(frozen=True)
class MemberLook:
    """What a viewer compares across a team page.

    Attributes:
        eye_line: eyes from the top, fraction of the height.
        head_size: eye midpoint to chin over the height.
        background: CIELAB of the background; None where it is the own scene or an image, or next
            to nothing of it is seen.
        temperature: CCT in kelvin of the light after balancing (`ToneReport.cct_after`).
    """

    eye_line: float
    head_size: float
    background: tuple[float, float, float] | None
    temperature: float


@dataclass(frozen=True)
class TeamReport:
    """How alike a team is, and who stands out.

    Attributes:
        members: how many are compared.
        eye_line_spread: largest less smallest, fraction of the height.
        head_size_spread: largest over smallest, less 1.
        background_spread: largest CIE76 distance between two backgrounds.
        temperature_spread: largest less smallest, kelvin.
        outliers: member -> in what it stands apart from the largest group whose members are all
            within the tolerance of one another.
    """

    members: int
    eye_line_spread: float
    head_size_spread: float
    background_spread: float
    temperature_spread: float
    outliers: Mapping[str, tuple[str, ...]]

    @property
    def consistent(self) -> bool:
        """Whether all four are within their tolerances."""
        return (
            self.eye_line_spread <= EYE_LINE_TOLERANCE
            and self.head_size_spread <= HEAD_SIZE_TOLERANCE
            and self.background_spread <= BACKGROUND_TOLERANCE
            and self.temperature_spread <= TEMPERATURE_TOLERANCE
        )


def look_of(
    result: U8, landmarks: NDArray[np.floating], alpha: F32, temperature: float
) -> MemberLook:
    """Return the look of one finished square.

    Args:
        result: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
        alpha: float32 [h, w] matte.
        temperature: kelvin, of the toned picture before its background was replaced: behind a
            coloured background nothing neutral may be left to read it from.
    """
    face = shape_of(landmarks)
    height = result.shape[0]
    pixels: U8 = result[alpha < 0.01]
    background = None
    if len(pixels) > 100:
        ground = to_lab(pixels)
        if float(ground[:, 0].std()) < 6:
            lightness, a, b = np.median(ground, axis=0)
            background = (float(lightness), float(a), float(b))
    return MemberLook(
        eye_line=face.eyes[1] / height,
        head_size=face.chin_metric / height,
        background=background,
        temperature=temperature,
    )


def compare_team(members: Mapping[str, MemberLook]) -> TeamReport:
    """Return how alike the members' headshots are.

    Args:
        members: name -> look; at least one.

    Raises:
        ValueError: nobody is given.
    """
    if not members:
        raise ValueError("a team has at least one member")
    looks = list(members.values())
    eyes = np.array([look.eye_line for look in looks])
    heads = np.array([look.head_size for look in looks])
    kelvins = np.array([look.temperature for look in looks])
    grounds = {
        name: look.background for name, look in members.items() if look.background is not None
    }
    apart = _distances(list(grounds.values()))
    together = _largest_group(apart, BACKGROUND_TOLERANCE)
    other_ground = {name for place, name in enumerate(grounds) if place not in together}
    eye_line = _common(eyes, EYE_LINE_TOLERANCE)
    head_size = float(np.exp(_common(np.log(heads), np.log1p(HEAD_SIZE_TOLERANCE))))
    kelvin = _common(kelvins, TEMPERATURE_TOLERANCE)
    outliers = {}
    for name, look in members.items():
        checks = (
            (abs(look.eye_line - eye_line) > EYE_LINE_TOLERANCE / 2 + 1e-6, "eye_line"),
            (
                abs(np.log(look.head_size / head_size)) > np.log1p(HEAD_SIZE_TOLERANCE) / 2 + 1e-6,
                "head_size",
            ),
            (name in other_ground, "background"),
            (abs(look.temperature - kelvin) > TEMPERATURE_TOLERANCE / 2 + 1e-6, "temperature"),
        )
        found = tuple(what for differs, what in checks if differs)
        if found:
            outliers[name] = found
    return TeamReport(
        members=len(members),
        eye_line_spread=float(np.ptp(eyes)),
        head_size_spread=float(heads.max() / heads.min() - 1),
        background_spread=float(apart.max(initial=0.0)),
        temperature_spread=float(np.ptp(kelvins)),
        outliers=outliers,
    )


def _common(values: NDArray[np.floating], tolerance: float) -> float:
    """Return the middle of the largest group of values that lie within the tolerance."""
    ordered = np.sort(values)
    ends = np.searchsorted(ordered, ordered + tolerance, side="right") - 1
    first = int(np.argmax(ends - np.arange(len(ordered))))
    return float((ordered[first] + ordered[ends[first]]) / 2)


def _distances(colours: Sequence[tuple[float, float, float]]) -> NDArray[np.float64]:
    """Return the CIE76 distance of each colour from each, [n, n]."""
    points = np.asarray(colours, np.float64).reshape(-1, 3)
    return np.asarray(np.linalg.norm(points[:, None] - points[None, :], axis=-1), np.float64)


def _largest_group(apart: NDArray[np.float64], tolerance: float) -> set[int]:
    """Return the places of a largest group all of whose members are within the tolerance.

    Around each of the few with the most neighbours in turn, the nearest first: exact where all
    belong together, else near enough.
    """
    near = apart <= tolerance
    if near.all():
        return set(range(len(apart)))
    largest: list[int] = []
    for start in np.argsort(-near.sum(axis=1), kind="stable")[:_STARTS]:
        neighbours = np.flatnonzero(near[start])
        # Those who are within the tolerance of everybody in the group.
        fitting = near[start].copy()
        group: list[int] = []
        for place in neighbours[np.argsort(apart[start, neighbours], kind="stable")]:
            if fitting[place]:
                group.append(int(place))
                fitting &= near[place]
        largest = max(largest, group, key=len)
    return set(largest)
