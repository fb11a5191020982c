"""grpc.health.v1 with watchers that cannot hold each other up, nor the end of the service.

The library's servicer writes to one watcher inside the lock of all: a peer that reads nothing stops
every later change of status. Here each watcher waits for changes and writes by itself.
"""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from headshot.api.interceptors.wrapping import Context, write
from headshot.errors import OverloadedError

# Anybody may watch, without a key; an orchestrator and its proxies are a handful.
MOST_WATCHERS = 128
_RETRY_S = 5.0


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers whether services can be called now.

    All of it belongs to one event loop. A watcher that falls behind misses statuses in between,
    never the last one.

    Args:
        services: the names that are known; they begin as NOT_SERVING. "" is the server as a whole.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._serving = dict.fromkeys(services, False)
        # What wakes each open Watch.
        self._watchers: set[asyncio.Event] = set()
        self._draining = False

    @property
    def watchers(self) -> int:
        """How many Watch calls are open."""
        return len(self._watchers)

    def set(self, *, serving: bool) -> None:
        """Tell whether the known services can be called; without effect once draining."""
        if self._draining or all(known is serving for known in self._serving.values()):
            return
        self._serving = dict.fromkeys(self._serving, serving)
        self._wake()

    def drain(self) -> None:
        """Say NOT_SERVING from now on, and end each Watch when it has said so."""
        self._serving = dict.fromkeys(self._serving, False)
        self._draining = True
        self._wake()

    async def Check(  # noqa: N802  (gRPC's name)
        self, request: HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """Answer for now; NOT_FOUND for a service that is not known."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return self._response(request.service)

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: Context
    ) -> None:
        """Answer for now and at each change; SERVICE_UNKNOWN for a service that is not known.

        It writes by itself, so that a peer that reads nothing counts until it leaves.

        Raises:
            OverloadedError: too many watch.
        """
        if len(self._watchers) >= MOST_WATCHERS:
            raise OverloadedError(
                "too many calls of Watch are open; use Check",
                reason="TOO_MANY_WATCHERS",
                retry_after_s=_RETRY_S,
            )
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            told: HealthCheckResponse | None = None
            while True:
                changed.clear()
                now = self._response(request.service)
                if now != told:
                    await write(now, context)
                    told = now
                elif self._draining:
                    return
                else:
                    await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _response(self, service: str) -> HealthCheckResponse:
        serving = self._serving.get(service)
        if serving is None:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        return HealthCheckResponse(
            status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        )

    def _wake(self) -> None:
        for changed in self._watchers:
            changed.set()
