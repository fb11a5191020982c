"""The one place where exceptions become gRPC statuses with typed details."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc

from headshot.api import status
from headshot.api.failures import note_failure
from headshot.api.interceptors.wrapping import AroundInterceptor, Context, final_code
from headshot.errors import HeadshotError
from headshot.telemetry import context as request_context
from headshot.telemetry.metrics import Metrics


class ErrorInterceptor(AroundInterceptor):
    """Answers the exceptions of everything inside it; unknown ones are logged with their origin.

    Args:
        metrics: counts missed deadlines by stage, failed calls to Triton by model, and requests
            that found a model's queue full.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return the context manager of one RPC."""
        return self._around(context)

    @asynccontextmanager
    async def _around(self, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError as error:
            if final_code(context, error) == "DEADLINE_EXCEEDED":
                self._metrics.deadline_missed("request")
            raise
        except (grpc.aio.AbortError, GeneratorExit):
            raise
        except Exception as error:
            current = request_context.current()
            if current is not None and isinstance(error, HeadshotError):
                current.facts["reason"] = error.reason
            note_failure(self._metrics, error)
            await status.abort(context, error, current.request_id if current is not None else "")
