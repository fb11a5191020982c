"""What operators learn of a failure: counters, and a log line for what is no caller's fault."""

from __future__ import annotations

from headshot.errors import (
    DeadlineError,
    HeadshotError,
    ModelContractError,
    ModelExecutionError,
    ModelUnavailableError,
    OverloadedError,
    ProvenanceError,
)
from headshot.telemetry import context as request_context
from headshot.telemetry.logs import get_logger
from headshot.telemetry.metrics import Metrics

_log = get_logger("headshot.errors")
_MODEL_ERRORS = (ModelUnavailableError, ModelContractError, ModelExecutionError)


def note_failure(metrics: Metrics, error: BaseException, **facts: str) -> None:
    """Count a failed call, or a failed item of one, and log what an operator must look at.

    Args:
        metrics: counts missed deadlines by stage, failed calls to Triton by model, and work that
            found a model's queue full, by tenant.
        error: what came out of the work.
        facts: what else the log line names.
    """
    if isinstance(error, DeadlineError):
        stage = error.metadata.get("stage", "request")
        if stage != "admission":  # Those are counted there.
            metrics.deadline_missed(stage)
    elif isinstance(error, TimeoutError):
        metrics.deadline_missed("request")
    elif isinstance(error, _MODEL_ERRORS):
        metrics.triton_failed(error.metadata.get("model", "any"), error.reason)
        if not isinstance(error, ModelUnavailableError):
            _log.error("a model failed", exc_info=error, **facts)
    elif isinstance(error, OverloadedError):
        if "model" in error.metadata:  # Admission counts its own.
            current = request_context.current()
            tenant = current.tenant if current is not None else request_context.ANONYMOUS
            metrics.shed(tenant, error.reason)
    elif isinstance(error, ProvenanceError):
        _log.error("content credentials could not be made", exc_info=error, **facts)
    elif not isinstance(error, HeadshotError):
        _log.error("unexpected error", exc_info=error, **facts)
