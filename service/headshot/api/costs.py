"""What a request costs, in headshots of one candidate: what admission weighs permits by.

Asked before anything of the request is checked, so every number in it may be any number.
"""

from __future__ import annotations

from headshot.v1 import headshot_service_pb2 as pb

# One picture through one or two networks.
STAGE = 0.25
# A picture of any size comes in and goes out whole: its memory counts, not the networks.
WHOLE_PICTURE = 1.0
_FURTHER_PHOTO = 0.05
_CANDIDATE_OF_STAGE = 0.5
_MOST_CANDIDATES = 8
_MOST_FILES = 8.0
# Pixels of files that are part of any headshot, and those that are as much work as another one.
_USUAL_PIXELS = 8e6
_PIXELS = 12e6
_USUAL_SIDE = 1200


def photos(count: int) -> float:
    """Return the cost of looking at so many photos."""
    return STAGE + _FURTHER_PHOTO * max(0, count - 1)


def denoise(candidates: int) -> float:
    """Return the cost of a Denoise call."""
    return STAGE + _CANDIDATE_OF_STAGE * _candidates(candidates)


def headshot(options: pb.HeadshotOptions) -> float:
    """Return the cost of one headshot: its candidates, and files beyond the usual."""
    pixels = 0
    for spec in options.renditions[:16]:
        width = spec.width or spec.height or _USUAL_SIDE
        pixels += width * (spec.height or width)
    files = min(_MOST_FILES, max(0.0, pixels - _USUAL_PIXELS) / _PIXELS)
    return _candidates(options.candidates) + files


def _candidates(wanted: int) -> float:
    return float(max(1, min(wanted, _MOST_CANDIDATES)))
