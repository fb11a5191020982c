"""The pipeline's own types -> answers of headshot.v1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headshot.imaging.encode import EncodeSpec, encode, encode_mask
from headshot.imaging.quality import QualityReport
from headshot.imaging.quality.team import TeamReport
from headshot.pipeline.call import Call, Event, ProgressEvent
from headshot.pipeline.capture_advice import SetAdvice
from headshot.pipeline.results import (
    CandidateImage,
    CandidateReport,
    DenoiseResult,
    HeadshotResult,
    Intermediates,
    PhotoReport,
    RenditionFile,
    Verification,
)
from headshot.pipeline.service import MatteResult
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, quality_pb2, style_pb2, timing_pb2

_PNG = EncodeSpec(format="png")


def png(image: NDArray[np.uint8]) -> bytes:
    """Return a picture as PNG, losslessly."""
    return encode(image, _PNG)


def timings(call: Call) -> timing_pb2.Timings:
    """Return where the time of a request went."""
    message = timing_pb2.Timings(
        total_ms=call.total_s * 1e3,
        admission_ms=call.admission_s * 1e3,
        computing_ms=call.computing_s * 1e3,
    )
    for stage in call.stages.values():
        message.stages.add(
            stage=stage.stage,
            total_ms=stage.total_s * 1e3,
            queue_ms=stage.queue_s * 1e3,
            compute_ms=stage.compute_s * 1e3,
            wire_ms=stage.wire_s * 1e3,
            requests=stage.requests,
            mean_batch=stage.mean_batch,
        )
    return message


def photo(report: PhotoReport) -> photo_pb2.PhotoVerdict:
    """Return one photo's verdict."""
    message = photo_pb2.PhotoVerdict(
        index=report.index,
        photo_id=report.photo_id,
        used=report.used,
        code=f"PHOTO_CODE_{report.code}",
        concerns=[f"PHOTO_CODE_{code}" for code in report.concerns],
        advice=report.advice,
        reason=report.reason,
        weight=report.weight,
    )
    if report.face is not None:
        left, top, right, bottom = (float(side) for side in report.face.box)
        message.face.CopyFrom(photo_pb2.Box(left=left, top=top, right=right, bottom=bottom))
    if report.similarity is not None:
        message.similarity = report.similarity
    return message


def advice(item: SetAdvice) -> photo_pb2.SetAdvice:
    """Return one piece of advice on a set."""
    return photo_pb2.SetAdvice(code=str(item.code), message=item.message)


def verification(result: Verification) -> quality_pb2.Verification:
    """Return whether two sets show one person."""
    message = quality_pb2.Verification(
        similarity=result.similarity,
        threshold=result.threshold,
        same_person=result.same_person,
        recogniser=result.recogniser,
        false_match_rate=result.false_match_rate,
    )
    if result.second_similarity is not None:
        message.second_similarity = result.second_similarity
    return message


def quality(report: QualityReport) -> quality_pb2.QualityReport:
    """Return all measures of a picture."""
    message = quality_pb2.QualityReport(passed=report.passed)
    for measure in report.measures:
        item = message.measures.add(
            layer=quality_pb2.QualityLayer.Value(f"QUALITY_LAYER_{str(measure.layer).upper()}"),
            id=measure.id,
            value=measure.value,
            unit=measure.unit,
            passed=measure.passed,
            standard=measure.standard,
        )
        if measure.bounds.low is not None:
            item.lower = measure.bounds.low
        if measure.bounds.high is not None:
            item.upper = measure.bounds.high
        if measure.component is not None:
            item.component = measure.component
    return message


def candidate(item: CandidateImage) -> pb.Candidate:
    """Return one candidate's picture."""
    return pb.Candidate(index=item.index, image=png(item.image), strength=item.strength)


def denoised(result: DenoiseResult, call: Call) -> pb.DenoiseResult:
    """Return the candidates of one denoise call."""
    return pb.DenoiseResult(
        candidates=[candidate(item) for item in result.candidates],
        reference=png(result.reference),
        photo=photo(result.photo),
        timings=timings(call),
        request_id=call.request_id,
    )


def matte(result: MatteResult, call: Call) -> pb.MatteResponse:
    """Return a cut-out."""
    height, width = result.alpha.shape
    return pb.MatteResponse(
        alpha=encode_mask(result.alpha),
        cutout=png(result.cutout) if result.cutout is not None else b"",
        width=width,
        height=height,
        timings=timings(call),
        request_id=call.request_id,
    )


def candidate_report(item: CandidateReport) -> pb.CandidateReport:
    """Return one candidate's fate."""
    return pb.CandidateReport(
        index=item.index,
        strength=item.strength,
        verification=verification(item.verification),
        chosen=item.chosen,
        regenerations=item.regenerations,
        reasons=item.reasons,
    )


def rendition(item: RenditionFile) -> style_pb2.Rendition:
    """Return one finished file."""
    return style_pb2.Rendition(
        name=item.name,
        filename=item.filename,
        media_type=item.media_type,
        width=item.width,
        height=item.height,
        dpi=item.dpi,
        data=item.data,
        notes=item.notes,
    )


def intermediates(item: Intermediates) -> pb.Intermediates:
    """Return the pictures from the way."""
    return pb.Intermediates(
        reference=png(item.reference),
        candidates=[candidate(one) for one in item.candidates],
        alpha=encode_mask(item.alpha),
        upscaled=png(item.upscaled) if item.upscaled is not None else b"",
    )


def headshot(result: HeadshotResult, call: Call) -> pb.HeadshotResult:
    """Return a finished headshot."""
    # Before the timings, which tell of it.
    between = intermediates(result.intermediates) if result.intermediates is not None else None
    return pb.HeadshotResult(
        request_id=call.request_id,
        renditions=[rendition(item) for item in result.renditions],
        verification=verification(result.verification),
        quality=quality(result.quality),
        candidates=[candidate_report(item) for item in result.candidates],
        photos=[photo(item) for item in result.photos],
        advice=[advice(item) for item in result.advice],
        style_id=result.style_id,
        style_version=result.style_version,
        background=result.background,
        warnings=result.warnings,
        degraded=result.degraded,
        timings=timings(call),
        profile=result.profile,
        intermediates=between,
    )


def team(report: TeamReport | None) -> pb.TeamReport | None:
    """Return how alike a team is so far."""
    if report is None:
        return None
    return pb.TeamReport(
        members=report.members,
        eye_line_spread=report.eye_line_spread,
        head_size_spread=report.head_size_spread,
        background_spread=report.background_spread,
        temperature_spread_kelvin=report.temperature_spread,
        consistent=report.consistent,
        outliers=[
            pb.TeamOutlier(
                item_id=name, differs=[f"TEAM_DIFFERENCE_{what.upper()}" for what in differs]
            )
            for name, differs in report.outliers.items()
        ],
    )


def event(item: Event) -> pb.CreateHeadshotResponse:
    """Return one event of a running CreateHeadshot."""
    if isinstance(item, ProgressEvent):
        return pb.CreateHeadshotResponse(progress=progress(item))
    return pb.CreateHeadshotResponse(
        stage=pb.StageEvent(
            stage=item.stage, finished=item.finished, duration_ms=item.duration_s * 1e3
        )
    )


def progress(item: ProgressEvent) -> pb.DenoiseProgress:
    """Return one denoise step's progress."""
    return pb.DenoiseProgress(
        candidate=item.candidate, step=item.step, steps=item.steps, preview=item.preview
    )
