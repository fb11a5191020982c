"""Who is calling, for how long, and what happened so far: one context variable for each RPC."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum

from headshot.deadline import Deadline

ANONYMOUS = "anonymous"
REQUEST_ID_HEADER = "x-request-id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_NO_TRACE = "0" * 32
_TRACESTATE_CHARS = 512


class Priority(IntEnum):
    """Order of service under load; a lower value goes first."""

    INTERACTIVE = 0
    BATCH = 1

    @property
    def label(self) -> str:
        """Return the metric label, lower case."""
        return self.name.lower()


@dataclass
class StageTimes:
    """Seconds that one stage took in this RPC, summed over its calls.

    Attributes:
        queue_s: seconds spent waiting (in the gateway and in Triton's queue).
        wire_s: seconds spent moving and (de)serialising tensors.
        compute_s: seconds of model or image computation.
        calls: how many calls are in the sums.
    """

    queue_s: float = 0.0
    wire_s: float = 0.0
    compute_s: float = 0.0
    calls: int = 0


@dataclass
class RequestContext:
    """Facts of one RPC; never pixels, vectors or secrets.

    Attributes:
        request_id: the caller's `x-request-id` when it is well formed, else a new random one.
        method: full gRPC method without the leading slash.
        tenant: set by authentication; "anonymous" before and without it.
        credential: id of the credential used (not the secret); empty without authentication.
        priority: the most urgent class that the credential and the caller allow.
        deadline: the caller's deadline, None when it gave none.
        traceparent: W3C header as received; empty when absent or malformed.
        tracestate: W3C vendor header as received, its first members up to 512 characters.
        stages: stage timings so far, for the access line.
        facts: small extra facts for the access line (counts, codes, style version).
    """

    request_id: str
    method: str
    tenant: str = ANONYMOUS
    credential: str = ""
    priority: Priority = Priority.INTERACTIVE
    deadline: Deadline | None = None
    traceparent: str = ""
    tracestate: str = ""
    stages: dict[str, StageTimes] = field(default_factory=dict)
    facts: dict[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def trace_id(self) -> str:
        """Return the caller's 32-digit W3C trace id, empty when it sent none."""
        match = _TRACEPARENT.fullmatch(self.traceparent)
        return match.group(1) if match and match.group(1) != _NO_TRACE else ""

    def add_stage(self, stage: str, queue_s: float, wire_s: float, compute_s: float) -> None:
        """Add one call's seconds to a stage's sums."""
        times = self.stages.setdefault(stage, StageTimes())
        times.queue_s += queue_s
        times.wire_s += wire_s
        times.compute_s += compute_s
        times.calls += 1


_current: ContextVar[RequestContext | None] = ContextVar("headshot_request", default=None)


def current() -> RequestContext | None:
    """Return the context of the RPC that this task serves, or None outside of one."""
    return _current.get()


def activate(context: RequestContext) -> None:
    """Make `context` current for this task and the tasks it starts from now on.

    There is no reset: grpc.aio serves each RPC in a task of its own, whose context dies with it.
    """
    _current.set(context)


def from_metadata(
    method: str, metadata: Iterable[tuple[str, str | bytes]], time_remaining: float | None
) -> RequestContext:
    """Build the context of one RPC from its call details.

    Args:
        method: full method as gRPC gives it, with or without the leading slash.
        metadata: invocation metadata; keys are lower case in gRPC.
        time_remaining: seconds to the caller's deadline, None without one.
    """
    found = {
        key: value
        for key, value in metadata
        if isinstance(value, str) and key in (REQUEST_ID_HEADER, "traceparent", "tracestate")
    }
    request_id = found.get(REQUEST_ID_HEADER, "")
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = uuid.uuid4().hex
    traceparent = found.get("traceparent", "")
    if not _TRACEPARENT.fullmatch(traceparent):
        traceparent = ""
    return RequestContext(
        request_id=request_id,
        method=method.lstrip("/"),
        deadline=None if time_remaining is None else Deadline.after(time_remaining),
        traceparent=traceparent,
        tracestate=_whole_members(found.get("tracestate", "")) if traceparent else "",
    )


def _whole_members(tracestate: str) -> str:
    """Return as many members as may be sent on; half of one would be a wrong value."""
    if len(tracestate) <= _TRACESTATE_CHARS:
        return tracestate
    return tracestate[: _TRACESTATE_CHARS + 1].rpartition(",")[0]
