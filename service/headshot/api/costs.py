"""What a request costs, in headshots of one candidate: what admission weighs it by.

Asked before anything of the request is checked, so every number in it may be any number.
"""

from __future__ import annotations

from dataclasses import dataclass

from headshot.imaging.renditions import size_of
from headshot.v1 import headshot_service_pb2 as pb

# One picture through one or two networks.
_STAGE = 0.25
_FURTHER_PHOTO = 0.05
_CANDIDATE_OF_STAGE = 0.5
_MOST_CANDIDATES = 8
# Steps that are part of any candidate; so many more are another candidate's worth of work.
_USUAL_STEPS = 8
_MOST_STEPS = 50
# A set of 16 and the picture that is compared with them.
_MOST_PHOTOS = 17
_MOST_FILES = 8.0
# Pixels of files that are part of any headshot, and those that are as much work as another one.
_USUAL_PIXELS = 8e6
_PIXELS = 12e6


@dataclass(frozen=True)
class Cost:
    """What a request takes. Both are 1 for a usual headshot of one candidate.

    Attributes:
        permits: how much of the process it holds while it is worked on.
        work: how much work it is, however long that takes: what rates and fair shares charge.
    """

    permits: float
    work: float


WHOLE_PICTURE = Cost(1.0, 1.0)
"""A picture of any size comes in and goes out whole: its memory counts, not the networks."""


def photos(count: int) -> Cost:
    """Return the cost of looking at so many photos."""
    cost = _STAGE + _further(count)
    return Cost(cost, cost)


def denoise(request: pb.DenoiseRequest) -> Cost:
    """Return the cost of a Denoise call."""
    loops = _CANDIDATE_OF_STAGE * _candidates(request.candidates)
    return Cost(_STAGE + loops, _STAGE + loops * _length(request.steps))


def headshot(options: pb.HeadshotOptions, photos: int = 1) -> Cost:
    """Return the cost of one headshot: its candidates, and files beyond the usual.

    More steps and photos are more work, but hold no more of the process at any time.
    """
    pixels = 0
    for spec in options.renditions[:16]:
        width, height = size_of(spec.name, spec.width, spec.height)
        pixels += width * height
    files = min(_MOST_FILES, max(0.0, pixels - _USUAL_PIXELS) / _PIXELS)
    candidates = _candidates(options.candidates)
    return Cost(candidates + files, candidates * _length(options.steps) + files + _further(photos))


def _candidates(wanted: int) -> float:
    return float(max(1, min(wanted, _MOST_CANDIDATES)))


def _length(steps: int) -> float:
    """Return how many usual candidates' worth of work one of so many steps is."""
    return max(1.0, min(steps, _MOST_STEPS) / _USUAL_STEPS)


def _further(photos: int) -> float:
    return _FURTHER_PHOTO * max(0, min(photos, _MOST_PHOTOS) - 1)
