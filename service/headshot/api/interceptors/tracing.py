"""The server span of each RPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc

from headshot.api.interceptors.wrapping import AroundInterceptor, Context, telling_code
from headshot.telemetry import context as request_context
from headshot.telemetry.tracing import Tracing


class TracingInterceptor(AroundInterceptor):
    """Opens a span around each RPC.

    Args:
        tracing: where spans go.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return the context manager of one RPC."""
        return self._around(context)

    @asynccontextmanager
    async def _around(self, context: Context) -> AsyncIterator[None]:
        current = request_context.current()
        if current is None:
            yield
            return
        with self._tracing.rpc(current), telling_code(context, self._tracing.ended):
            yield
