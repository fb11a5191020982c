"""Structured logs: one JSON object a line on stderr, the same for our code and for libraries."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from headshot.telemetry import context as request_context
from headshot.telemetry.redaction import clean_text, redact_event


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logging to `stream` as redacted JSON lines.

    Args:
        level: debug, info, warning or error.
        stream: where lines go; None is stderr.

    Raises:
        ValueError: for an unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}; use debug, info, warning or error")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _render_exception,
    ]
    last: list[Processor] = [redact_event, structlog.processors.JSONRenderer()]
    target = stream or sys.stderr
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        # Not cached, so that a later configure (tests, a second stream) holds for all loggers.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak up only for warnings: their debug lines hold requests and responses.
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("headshot").setLevel(number)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry `component=name`."""
    logger: FilteringBoundLogger = structlog.get_logger(component=name)
    return logger


def _add_request(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    current = request_context.current()
    if current is not None:
        event.setdefault("request_id", current.request_id)
        event.setdefault("tenant", current.tenant)
        if current.trace_id:
            event.setdefault("trace_id", current.trace_id)
    return event


def _render_exception(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Render an exception as its type, message and our call sites, without locals and paths."""
    found = event.pop("exc_info", None)
    if not found:
        return event
    if isinstance(found, tuple):
        error = found[1]
    elif isinstance(found, BaseException):
        error = found
    else:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error_type"] = type(error).__name__
        event["error"] = clean_text(str(error))
        frames = traceback.extract_tb(error.__traceback__)[-8:]
        event["where"] = [
            f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in frames
        ]
    return event
