"""Quality of a headshot in three layers: identity, realism, context."""

from __future__ import annotations

from headshot.imaging.quality.measure import measure
from headshot.imaging.quality.report import (
    DEFAULT_BOUNDS,
    Bounds,
    Layer,
    Measure,
    QualityReport,
)
from headshot.imaging.quality.team import MemberLook, TeamReport, compare_team, look_of

__all__ = [
    "DEFAULT_BOUNDS",
    "Bounds",
    "Layer",
    "Measure",
    "MemberLook",
    "QualityReport",
    "TeamReport",
    "compare_team",
    "look_of",
    "measure",
]
