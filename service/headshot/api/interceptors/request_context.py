"""The outermost interceptor: who, how long, which trace, under which id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc

from headshot.api.interceptors.wrapping import AroundInterceptor, Context
from headshot.telemetry import context as request_context


class RequestContextInterceptor(AroundInterceptor):
    """Makes the RequestContext of each RPC and sends its request id back in the first metadata."""

    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return the context manager of one RPC."""
        return _around(details, context)


@asynccontextmanager
async def _around(details: grpc.HandlerCallDetails, context: Context) -> AsyncIterator[None]:
    metadata: Any = details.invocation_metadata or ()
    method: Any = details.method
    text = method.decode() if isinstance(method, bytes) else method
    request = request_context.from_metadata(text, metadata, context.time_remaining())
    request_context.activate(request)
    await context.send_initial_metadata(((request_context.REQUEST_ID_HEADER, request.request_id),))
    yield
