"""The one place where exceptions become gRPC statuses with typed details."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc

from headshot.api import status
from headshot.api.interceptors.wrapping import AroundInterceptor, Context
from headshot.errors import HeadshotError
from headshot.telemetry import context as request_context
from headshot.telemetry.logs import get_logger

_log = get_logger("headshot.errors")


class ErrorInterceptor(AroundInterceptor):
    """Answers the exceptions of everything inside it; unknown ones are logged with their origin."""

    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return the context manager of one RPC."""
        return _around(context)


@asynccontextmanager
async def _around(context: Context) -> AsyncIterator[None]:
    try:
        yield
    except (asyncio.CancelledError, grpc.aio.AbortError, GeneratorExit):
        raise
    except Exception as error:
        current = request_context.current()
        if current is not None and isinstance(error, HeadshotError):
            current.facts["reason"] = error.reason
        if not isinstance(error, HeadshotError | TimeoutError):
            _log.error("unexpected error", exc_info=error)
        await status.abort(context, error, current.request_id if current is not None else "")
