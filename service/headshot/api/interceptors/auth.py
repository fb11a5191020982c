"""Who calls: an API key or a verified client certificate becomes a tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc

from headshot.api.interceptors.wrapping import AroundInterceptor, Context
from headshot.errors import UnauthenticatedError
from headshot.security.credentials import CredentialStore
from headshot.security.tls import peer_names
from headshot.telemetry import context as request_context
from headshot.telemetry.metrics import Metrics

# Probes of an orchestrator have no key; the answer tells nothing but "serving".
OPEN_SERVICES = ("grpc.health.v1.Health/",)


class AuthInterceptor(AroundInterceptor):
    """Refuses callers that are not known; puts tenant and priority into the RequestContext.

    It raises UnauthenticatedError, so an ErrorInterceptor must stand outside of it.

    Args:
        credentials: who is known.
        metrics: counts refusals by reason.
    """

    def __init__(self, credentials: CredentialStore, metrics: Metrics) -> None:
        self._credentials = credentials
        self._metrics = metrics

    def around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AbstractAsyncContextManager[object]:
        """Return the context manager of one RPC."""
        return self._around(details, context)

    @asynccontextmanager
    async def _around(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AsyncIterator[None]:
        current = request_context.current()
        if current is None:
            raise RuntimeError("RequestContextInterceptor must stand outside of AuthInterceptor")
        if not current.method.startswith(OPEN_SERVICES):
            metadata: Any = details.invocation_metadata or ()
            auth: Any = context.auth_context() or {}
            try:
                found = self._credentials.authenticate(metadata, peer_names(auth))
            except UnauthenticatedError as error:
                self._metrics.auth_failed(error.reason)
                raise
            current.tenant = found.tenant
            current.credential = found.id
            current.priority = found.highest_priority
        yield
