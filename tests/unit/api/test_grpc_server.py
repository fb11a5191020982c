"""What the server does about peers that are gone, and about more calls than a process bears."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from headshot.api.grpc_server import make_server, most_calls
from headshot.api.health import HealthServicer
from headshot.api.interceptors import OpenCalls, server_interceptors
from headshot.config import Settings
from headshot.telemetry import logs
from headshot.telemetry.metrics import Metrics
from headshot.telemetry.tracing import NullTracing
from prometheus_client import CollectorRegistry

from tests.unit.api.silent_peer import SilentPeer

CHECK = "/grpc.health.v1.Health/Check"
REQUEST = health_pb2.HealthCheckRequest().SerializeToString()
SMALL = Settings(max_concurrency=1, max_queue=0)


@asynccontextmanager
async def serving(
    options: Mapping[str, int] = MappingProxyType({}),
) -> AsyncIterator[tuple[str, HealthServicer, OpenCalls]]:
    calls, checks = OpenCalls("/t.T/"), HealthServicer(("",))
    chain = server_interceptors(Metrics(CollectorRegistry()), NullTracing(), None)
    named = [(f"grpc.{name}", value) for name, value in options.items()]
    server = make_server(SMALL, [calls, *chain], named)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}", checks, calls
    await server.stop(None)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_calls_of_a_peer_that_is_gone_without_a_word_end() -> None:
    soon = {"keepalive_time_ms": 1000, "http2.ping_timeout_ms": 500}
    async with serving(soon) as (address, checks, _):
        watch = "/grpc.health.v1.Health/Watch"
        peers = [await SilentPeer.call(address, watch, REQUEST) for _ in range(2)]
        await until(lambda: checks.watchers == 2)
        await asyncio.sleep(0.2)  # For the pings that follow a new connection.
        await peers[0].die()
        await until(lambda: checks.watchers == 1)
        await asyncio.sleep(1)
        assert checks.watchers == 1
        for peer in peers:
            await peer.close()


async def test_a_peer_that_hangs_up_with_an_answer_on_its_way_is_no_error_of_ours() -> None:
    log = io.StringIO()
    logs.configure("info", log)
    try:
        async with serving() as (address, checks, calls):
            peer = await SilentPeer.call(address, "/grpc.health.v1.Health/Watch", REQUEST)
            await until(lambda: checks.watchers == 1)
            await asyncio.sleep(0.1)  # Until the answer waits for the peer's window.
            await peer.close()
            await until(lambda: calls.count == 0)
    finally:
        logs.configure("warning")
    assert log.getvalue() == ""


async def test_more_calls_than_a_process_bears_are_refused_however_many_connections() -> None:
    most = most_calls(SMALL)
    async with serving() as (address, _, calls):
        # Channels of one process share a connection unless told otherwise.
        alone = [("grpc.use_local_subchannel_pool", 1)]
        channels: list[Any] = [grpc.aio.insecure_channel(address, options=alone) for _ in "12"]
        first = [channels[0].stream_unary(CHECK)() for _ in range(most + 5)]
        # A connection alone may hold them all, and no more.
        await until(lambda: calls.count == most)
        refused = channels[1].unary_unary(CHECK)(REQUEST, timeout=5)
        assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in first:
            call.cancel()
        await until(lambda: calls.count == 0)
        assert await channels[1].unary_unary(CHECK)(REQUEST, timeout=5)
        for channel in channels:
            await channel.close()
