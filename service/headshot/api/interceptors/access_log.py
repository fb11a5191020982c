"""One log line for each RPC: who, what, how it ended, how long each stage took."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc

from headshot.api.interceptors.wrapping import AroundInterceptor, Context, telling_code
from headshot.telemetry import context as request_context
from headshot.telemetry.logs import get_logger

_QUIET_PREFIXES = ("grpc.health.", "grpc.reflection.")


class AccessLogInterceptor(AroundInterceptor):
    """Writes the access line when the RPC ends; health probes are left out."""

    def __init__(self) -> None:
        self._log = get_logger("headshot.access")

    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return the context manager of one RPC."""
        return self._around(context)

    @asynccontextmanager
    async def _around(self, context: Context) -> AsyncIterator[None]:
        began = time.perf_counter()

        def tell(code: str) -> None:
            current = request_context.current()
            if current is not None and not current.method.startswith(_QUIET_PREFIXES):
                self._write(current, code, time.perf_counter() - began)

        with telling_code(context, tell):
            yield

    def _write(self, request: request_context.RequestContext, code: str, duration_s: float) -> None:
        stages = {
            name: {
                "queue_ms": _ms(times.queue_s),
                "wire_ms": _ms(times.wire_s),
                "compute_ms": _ms(times.compute_s),
                "calls": times.calls,
            }
            for name, times in request.stages.items()
        }
        self._log.info(
            "rpc",
            method=request.method,
            code=code,
            duration_ms=_ms(duration_s),
            priority=request.priority.label,
            credential=request.credential,
            stages=stages,
            facts=request.facts,
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
