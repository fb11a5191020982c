"""The service's parts put together without models: for calls that end before one is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headshot.api.admission import AdmissionController, AdmissionLimits
from headshot.api.audit_trail import AuditTrail
from headshot.api.session import Sessions
from headshot.api.templates import Templates
from headshot.config import Settings
from headshot.imaging.quality import QualityReport
from headshot.pipeline.engine import Engine
from headshot.pipeline.results import HeadshotResult, Intermediates, Verification
from headshot.pipeline.service import Pipeline
from headshot.pipeline.workers import Workers
from headshot.security.keyring import KeyRing
from headshot.security.templates import TemplateSealer
from headshot.telemetry import tracing
from headshot.telemetry.audit import AuditLog
from headshot.telemetry.metrics import Metrics
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2


class Caller:
    """The part of gRPC's context that a handler looks at."""

    def time_remaining(self) -> float | None:
        """Return None: no deadline."""
        return None


def person(name: str) -> pb.CreateHeadshotsRequest:
    """Return a team's message with one person, whose photo is none."""
    photo = photo_pb2.Photo(data=b"no picture")
    return pb.CreateHeadshotsRequest(item=pb.TeamItem(item_id=name, photos=[photo]))


@dataclass(frozen=True)
class Parts:
    """What the RPCs are made of."""

    settings: Settings
    pipeline: Pipeline
    sessions: Sessions
    templates: Templates
    audit: AuditTrail
    admission: AdmissionController
    metrics: Metrics


def make_parts(workers: Workers, audit_log: Path, **changes: Any) -> Parts:
    """Return the parts; the engine has neither client nor models."""
    settings, metrics = Settings(**changes), Metrics()
    ring = KeyRing.ephemeral()
    admission = AdmissionController(AdmissionLimits(permits=4, queue=64), metrics)
    return Parts(
        settings,
        Pipeline(Engine(None, None, workers, metrics), settings),
        Sessions(settings, admission, metrics, tracing.configure(None)),
        Templates(TemplateSealer(lambda: ring), "recogniser", 60),
        AuditTrail(AuditLog(audit_log)),
        admission,
        metrics,
    )


def headshot_result(
    verification: Verification, intermediates: Intermediates | None = None
) -> HeadshotResult:
    """Return a result without files, for what is told beside them."""
    return HeadshotResult(
        renditions=(),
        verification=verification,
        quality=QualityReport(()),
        candidates=(),
        photos=(),
        advice=(),
        style_id="legal",
        style_version="1.0",
        background="",
        warnings=(),
        degraded=(),
        profile="compact",
        intermediates=intermediates,
    )
