"""What every RPC does around its work: validate, find the deadline, get a permit."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from headshot.api.admission import AdmissionController
from headshot.api.costs import WHOLE_PICTURE, Cost
from headshot.api.failures import note_failure
from headshot.api.interceptors.wrapping import final_code
from headshot.api.validation import validate
from headshot.config import Settings
from headshot.deadline import Deadline
from headshot.errors import DeadlineError, PermissionDeniedError
from headshot.pipeline.call import Call
from headshot.telemetry import context as request_context
from headshot.telemetry.context import Priority, RequestContext
from headshot.telemetry.metrics import Metrics
from headshot.telemetry.tracing import Tracing

# The answer to a late request must itself arrive in time: stop this much before the caller does.
_ANSWER_MARGIN_S = 0.02
# Stages end by themselves at the deadline and say where; work that does not is cut off so much
# later.
_PATIENCE_S = 5.0

Context = grpc.aio.ServicerContext[Any, Any]


class Sessions:
    """Opens the frame in which one RPC works."""

    def __init__(
        self,
        settings: Settings,
        admission: AdmissionController,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._metrics = metrics
        self._tracing = tracing

    @asynccontextmanager
    async def open(
        self,
        context: Context,
        request: Message,
        *,
        request_id: str = "",
        priority: Priority | None = None,
        cost: Cost = WHOLE_PICTURE,
        kind: str = "",
    ) -> AsyncIterator[Call]:
        """Validate the request, wait for a permit and yield the call.

        Args:
            context: gRPC's context of the RPC.
            request: the (first) request message.
            request_id: the caller's identifier; empty takes the header's or a new one.
            priority: the caller's wish; it can only lower what its credential allows.
            cost: what admission weighs it by.
            kind: what work it is, for the service times that admission learns; empty takes the
                request's own kind.
        """
        # First of all: an id that breaks its rules may not come into logs and trailers.
        validate(request)
        current = request_context.current()
        if request_id and current is not None:
            current.request_id = request_id
        identifier = request_id or (current.request_id if current else "") or uuid.uuid4().hex
        kind = kind or request.DESCRIPTOR.name
        given_s = self.deadline(context).remaining()
        try:
            async with self.work(
                context, request, identifier, current, priority, cost, kind
            ) as call:
                yield call
        except (DeadlineError, TimeoutError, asyncio.CancelledError) as error:
            left = isinstance(error, asyncio.CancelledError)
            late = not left or final_code(context, error) == "DEADLINE_EXCEEDED"
            if late and given_s < self._admission.fastest(kind, cost.work):
                self._metrics.deadline_hopeless()
            raise

    @asynccontextmanager
    async def work(
        self,
        context: Context,
        request: Message,
        identifier: str,
        current: RequestContext | None,
        priority: Priority | None,
        cost: Cost,
        kind: str = "",
    ) -> AsyncIterator[Call]:
        """Yield the call of an admitted, valid request.

        The error interceptor answers what is raised.
        """
        started = time.perf_counter()
        deadline = self.deadline(context)
        tenant = current.tenant if current else request_context.ANONYMOUS
        allowed = current.priority if current else Priority.INTERACTIVE
        chosen = max(allowed, priority) if priority is not None else allowed
        kind = kind or request.DESCRIPTOR.name
        admitted = self._admission.admit(
            tenant, chosen, deadline, cost=cost.permits, kind=kind, work=cost.work
        )
        async with admitted:
            call = Call(
                deadline,
                request_id=identifier,
                priority=1 + int(chosen),
                headers=self._tracing.headers(),
                started=started,
                admission_s=time.perf_counter() - started,
            )
            try:
                async with asyncio.timeout(deadline.remaining() + _PATIENCE_S):
                    yield call
            finally:
                self._book(call)

    def deadline(self, context: Context) -> Deadline:
        """Return the caller's deadline, bounded by the operator's, a little early."""
        # The stubs leave out that a caller may set no deadline.
        remaining: float | None = context.time_remaining()
        if remaining is None:
            remaining = self._settings.default_deadline_s + _ANSWER_MARGIN_S
        return Deadline.after(
            max(0.0, min(remaining, self._settings.max_deadline_s) - _ANSWER_MARGIN_S)
        )

    def check_consent(self, reference: str) -> None:
        """Refuse work without a consent reference where policy requires one."""
        if self._settings.require_consent and not reference:
            raise PermissionDeniedError(
                "this service needs consent_reference, a pointer to the person's recorded consent; "
                "Denoise and Verify take it from an identity template that was made with one",
                reason="CONSENT_REQUIRED",
            )

    def note_failure(self, error: BaseException, identifier: str) -> None:
        """Count and log the failure of one item of a call that goes on."""
        note_failure(self._metrics, error, request_id=identifier)

    def _book(self, call: Call) -> None:
        """Hand the call's timings to metrics, which also puts them on the access line."""
        for timing in call.stages.values():
            self._metrics.observe_stage(timing.stage, *timing.parts())
