"""Rate, errors and duration of every RPC."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc

from headshot.api.interceptors.wrapping import AroundInterceptor, Context, telling_code
from headshot.telemetry import context as request_context
from headshot.telemetry.metrics import Metrics


class MetricsInterceptor(AroundInterceptor):
    """Counts RPCs, also those that authentication or admission refuses.

    Args:
        metrics: where they are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return the context manager of one RPC."""
        return self._around(context)

    def unknown_method(self, details: grpc.HandlerCallDetails) -> None:
        """Count a call to a method that does not exist."""
        self._metrics.rpc_started("unknown")
        self._metrics.rpc_finished("unknown", "UNIMPLEMENTED", request_context.ANONYMOUS, 0.0)

    @asynccontextmanager
    async def _around(self, context: Context) -> AsyncIterator[None]:
        current = request_context.current()
        method = current.method if current is not None else ""
        began = time.perf_counter()
        self._metrics.rpc_started(method)

        def tell(code: str) -> None:
            # Only now: authentication, inside, tells whose call it is.
            tenant = current.tenant if current is not None else request_context.ANONYMOUS
            self._metrics.rpc_finished(method, code, tenant, time.perf_counter() - began)

        with telling_code(context, tell):
            yield
