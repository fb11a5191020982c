"""What the pipeline answers, free of any transport."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headshot.imaging.quality import QualityReport
from headshot.imaging.quality.team import TeamReport
from headshot.pipeline.capture_advice import PhotoCode, SetAdvice
from headshot.pipeline.detect import Face
from headshot.pipeline.identity import Template

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class PhotoReport:
    """What became of one photo of a request.

    Attributes:
        index: position in the request.
        photo_id: the caller's name for it.
        code: OK, or the first reason it was left out.
        reason: finer reason of an unreadable photo.
        concerns: further problems that did not exclude it.
        advice: plain sentences.
        weight: weight in the template, 0 to 1.
        face: the chosen face in pixels of the upright photo as it was sent, None without one.
        similarity: to the template made from the rest, None where there is no rest.
    """

    index: int
    photo_id: str
    code: PhotoCode
    reason: str = ""
    concerns: tuple[PhotoCode, ...] = ()
    advice: tuple[str, ...] = ()
    weight: float = 0.0
    face: Face | None = None
    similarity: float | None = None

    @property
    def used(self) -> bool:
        """Whether the photo was used."""
        return self.weight > 0


@dataclass(frozen=True)
class Verification:
    """Whether two templates are one person; see proto headshot.v1.Verification.

    The first recogniser alone decides; the second, where one is served, is told beside it.
    """

    similarity: float
    threshold: float
    recogniser: str
    false_match_rate: float
    second_similarity: float | None = None
    second_threshold: float | None = None

    @property
    def second(self) -> tuple[float, float] | None:
        """Similarity and threshold of the second recogniser, None where there is none."""
        if self.second_similarity is None or self.second_threshold is None:
            return None
        return self.second_similarity, self.second_threshold

    @property
    def same_person(self) -> bool:
        """Whether the similarity reaches the threshold."""
        return self.similarity >= self.threshold


@dataclass(frozen=True)
class IdentityResult:
    """A person's template and the verdicts on the photos it was made from."""

    template: Template
    photos: tuple[PhotoReport, ...]
    advice: tuple[SetAdvice, ...]


@dataclass(frozen=True)
class CandidateReport:
    """One candidate's fate."""

    index: int
    strength: float
    verification: Verification
    chosen: bool
    regenerations: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class CandidateImage:
    """One candidate's picture, uint8 [canvas, canvas, 3] RGB."""

    index: int
    image: Image
    strength: float


@dataclass(frozen=True)
class DenoiseResult:
    """Candidates made from one photo.

    Attributes:
        reference: the framed photo, uint8 [canvas, canvas, 3] RGB.
        candidates: in order.
        photo: the photo's verdict.
        style_id: the style whose framing was used.
        style_version: its version.
    """

    reference: Image
    candidates: tuple[CandidateImage, ...]
    photo: PhotoReport
    style_id: str
    style_version: str


@dataclass(frozen=True)
class RenditionFile:
    """One finished picture file."""

    name: str
    filename: str
    media_type: str
    width: int
    height: int
    dpi: int
    data: bytes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Intermediates:
    """Pictures from the way, at the canvas size (the last one enlarged)."""

    reference: Image
    candidates: tuple[CandidateImage, ...]
    alpha: Image
    upscaled: Image | None


@dataclass(frozen=True)
class HeadshotResult:
    """A finished headshot; see proto headshot.v1.HeadshotResult.

    `team` says how alike a team is so far; None for one person alone.
    """

    renditions: tuple[RenditionFile, ...]
    verification: Verification
    quality: QualityReport
    candidates: tuple[CandidateReport, ...]
    photos: tuple[PhotoReport, ...]
    advice: tuple[SetAdvice, ...]
    style_id: str
    style_version: str
    background: str
    warnings: tuple[str, ...]
    degraded: tuple[str, ...]
    profile: str
    intermediates: Intermediates | None = field(default=None)
    team: TeamReport | None = None
