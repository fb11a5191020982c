"""Triton endpoints: balancing, ejection and the probes that bring them back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from headshot.errors import HeadshotError

_log = logging.getLogger(__name__)

_HOLD_S = 2.0
_MAX_HOLD_S = 10.0
_RECONNECT_S = 0.1  # as long as gRPC's first pause before it connects again
_MESSAGE_BYTES = 256 << 20
# No keepalive pings: the probes notice a dead connection, and Triton closes one that pings often.
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    # A name with several addresses (`dns:///triton:8001`) uses all of them.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    # A restarted server is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    # Not a retry policy: only calls that the server has not seen are sent again, which happens
    # where it ends a connection of old age so that clients look for new pods.
    ("grpc.enable_retries", 1),
)


@dataclass(frozen=True)
class ProbeSettings:
    """How endpoints are watched.

    Attributes:
        interval_s: pause between probes of one endpoint.
        timeout_s: longest wait for one probe's answer.
        failures: probes that must fail in a row before a healthy endpoint is ejected, so that a
            busy machine is not taken for a dead one.
        slow_calls: calls that must time out in a row before an endpoint is ejected.
    """

    interval_s: float = 0.5
    timeout_s: float = 2.0
    failures: int = 3
    slow_calls: int = 2


class Flight:
    """One RPC under way; an ejected endpoint abandons its flights, and they go elsewhere."""

    def __init__(self, call: grpc.aio.UnaryUnaryCall[object, object]) -> None:
        self.call = call
        self.abandoned = False

    def abandon(self) -> None:
        """Cancel the RPC and remember that it was the endpoint's fault."""
        self.abandoned = True
        self.call.cancel()


class Endpoint:
    """One server: its channel, what is under way there, and whether it is healthy.

    Or all servers behind one name, which gRPC balances over: it drops a connection that broke by
    itself, so what one of them did is nothing to take all of them out of use for. Only probes that
    fail in a row do.
    """

    def __init__(self, url: str, settings: ProbeSettings) -> None:
        self.url = url
        self.channel = grpc.aio.insecure_channel(url, options=_CHANNEL_OPTIONS)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.flights: set[Flight] = set()
        self.healthy = True
        self.ejections = 0
        self.several = url.startswith("dns:") or "," in url
        self._settings = settings
        self._slow = 0
        self._breaks = 0
        self._held_until = 0.0

    def succeeded(self) -> None:
        """Note an answered call."""
        self._slow = 0
        self._breaks = 0

    def broke(self) -> None:
        """Note that a model's process is dead, which the server's health does not show.

        The endpoint is out of use for a while that doubles each time, so that a supervisor can
        restart it; not where it stands for several servers.
        """
        if self.several:
            return
        hold = min(_HOLD_S * 2**self._breaks, _MAX_HOLD_S)
        self._breaks += 1
        self._held_until = time.monotonic() + hold
        self.eject("a model's process is dead")

    def timed_out(self) -> None:
        """Note a call that had no answer in time; eject a single server after several in a row."""
        if self.several:
            return
        self._slow += 1
        if self._slow >= self._settings.slow_calls:
            self.eject("it does not answer")

    async def disconnected(self) -> None:
        """Note a call whose connection broke; eject unless another server behind the name answers.

        It is asked at once, and not left to the watcher: callers whose attempts are used up before
        the next probes have failed would get an error instead of waiting for a server.
        """
        if self.several:
            for pause in (0.0, *[_RECONNECT_S] * (self._settings.failures - 1)):
                await asyncio.sleep(pause)
                if not self.healthy or await self.probe():
                    return
        self.eject("no connection")

    def eject(self, why: str) -> None:
        """Take the endpoint out of the balancing until a probe finds it ready."""
        if not self.healthy:
            return
        self.healthy = False
        self.ejections += 1
        self._slow = 0
        _log.warning("endpoint %s is out of use: %s", self.url, why)
        for flight in list(self.flights):
            flight.abandon()

    def restore(self) -> None:
        """Put the endpoint back into the balancing."""
        if not self.healthy:
            self.healthy = True
            _log.info("endpoint %s is in use again", self.url)

    @property
    def held(self) -> bool:
        """Whether it is too early to try the endpoint again, however healthy it looks."""
        return time.monotonic() < self._held_until

    async def probe(self) -> bool:
        """Ask whether the server is ready; its health RPC does not queue behind inference."""
        request = service_pb2.ServerReadyRequest()
        try:
            answer = await self.stub.ServerReady(request, timeout=self._settings.timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.ready)


EndpointCheck = Callable[[Endpoint], Awaitable[bool]]


class EndpointPool:
    """Chooses the healthy endpoint with the least under way, and watches all of them."""

    def __init__(self, urls: Iterable[str], settings: ProbeSettings) -> None:
        self.endpoints = tuple(Endpoint(url, settings) for url in urls)
        if not self.endpoints:
            raise ValueError("at least one Triton endpoint is needed")
        self._settings = settings
        self._watchers: list[asyncio.Task[None]] = []
        self._restored = asyncio.Event()
        self._turn = 0
        self.check: EndpointCheck | None = None  # asked before an endpoint is restored

    def start(self) -> None:
        """Begin to watch; needs a running event loop."""
        if not self._watchers:
            self._watchers = [
                asyncio.create_task(self._watch(endpoint), name=f"probe {endpoint.url}")
                for endpoint in self.endpoints
            ]

    async def close(self) -> None:
        """Stop watching and close all channels."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers = []
        for endpoint in self.endpoints:
            await endpoint.channel.close(None)

    def choose(self, avoid: Sequence[Endpoint] = ()) -> Endpoint | None:
        """Return the best healthy endpoint that is not in `avoid`, or None."""
        candidates = [
            endpoint for endpoint in self.endpoints if endpoint.healthy and endpoint not in avoid
        ]
        if not candidates:
            return None
        self._turn += 1  # equally loaded endpoints take turns
        offset = self._turn % len(candidates)
        return min(candidates[offset:] + candidates[:offset], key=lambda one: len(one.flights))

    async def wait_restored(self, timeout_s: float) -> bool:
        """Wait until some endpoint is healthy; False when none is after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not any(endpoint.healthy for endpoint in self.endpoints):
                    self._restored.clear()
                    await self._restored.wait()
        return any(endpoint.healthy for endpoint in self.endpoints)

    async def _watch(self, endpoint: Endpoint) -> None:
        missed = 0
        while True:
            if await endpoint.probe():
                missed = 0
                if not (endpoint.healthy or endpoint.held) and await self._may_return(endpoint):
                    endpoint.restore()
                    self._restored.set()
            else:
                missed += 1
                if missed >= self._settings.failures:
                    endpoint.eject("its health probes fail")
            await asyncio.sleep(self._settings.interval_s)

    async def _may_return(self, endpoint: Endpoint) -> bool:
        if self.check is None:
            return True
        try:
            same = await self.check(endpoint)
        except (HeadshotError, grpc.aio.AioRpcError):
            same = False
        if not same:
            _log.error("endpoint %s answers but its models are not those expected", endpoint.url)
        return same
