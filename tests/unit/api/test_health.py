"""grpc.health.v1 on a real server: what probes and watchers are told, and how the server ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from headshot.api.draining import stop_server
from headshot.api.health import MOST_WATCHERS, HealthServicer
from headshot.api.interceptors import OpenCalls, server_interceptors
from headshot.telemetry.metrics import Metrics
from headshot.telemetry.tracing import NullTracing
from prometheus_client import CollectorRegistry

from tests.unit.api.silent_peer import SilentPeer

NAME = "t.T"
Status = health_pb2.HealthCheckResponse


@dataclass
class Running:
    """A server with the gateway's interceptors, health and one method of work."""

    checks: HealthServicer
    calls: OpenCalls
    server: grpc.aio.Server
    address: str
    channel: Any
    ended: list[str]

    def watch(self, service: str = "") -> Any:
        stub = health_pb2_grpc.HealthStub(self.channel)  # type: ignore[no-untyped-call]
        return stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)

    async def check(self, service: str = "") -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)  # type: ignore[no-untyped-call]
        request = health_pb2.HealthCheckRequest(service=service)
        answer: Status = await stub.Check(request, timeout=5)
        return answer.status

    async def stop(self, grace_s: float) -> float:
        """Stop as the gateway does; return the seconds that it took."""
        begun = time.perf_counter()
        self.checks.drain()
        async with asyncio.timeout(20):
            await stop_server(self.server, self.calls, grace_s)
        return time.perf_counter() - begun


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    ended: list[str] = []

    async def work(request: bytes, _context: object) -> bytes:
        try:
            await asyncio.sleep(float(request))
            ended.append("done")
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)  # As a record that is written on a thread.
            ended.append("cut off")
            raise
        return b"done"

    calls = OpenCalls(f"/{NAME}/")
    chain = server_interceptors(Metrics(CollectorRegistry()), NullTracing(), None)
    server = grpc.aio.server(interceptors=[calls, *chain])
    checks = HealthServicer(("", NAME))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    methods = {"Work": grpc.unary_unary_rpc_method_handler(work)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Running(checks, calls, server, f"127.0.0.1:{port}", channel, ended)
    await server.stop(None)


async def read(watch: Any) -> int | None:
    """Return the next status, None at the end."""
    async with asyncio.timeout(5):
        answer = await watch.read()
    return None if answer is grpc.aio.EOF else answer.status


async def until_watched(running: Running, times: int) -> None:
    async with asyncio.timeout(5):
        while running.checks.watchers != times:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until_working(running: Running, calls: int) -> None:
    async with asyncio.timeout(5):
        while len(running.calls.working) != calls:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_check_tells_of_known_services_and_refuses_others(running: Running) -> None:
    assert await running.check() == Status.NOT_SERVING
    running.checks.set(serving=True)
    assert [await running.check(name) for name in ("", NAME)] == [Status.SERVING] * 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.check("nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_hears_of_each_change_once_and_its_call_ends_with_the_service(
    running: Running,
) -> None:
    watch = running.watch(NAME)
    assert await read(watch) == Status.NOT_SERVING
    for _ in range(3):
        running.checks.set(serving=True)
    assert await read(watch) == Status.SERVING
    running.checks.drain()
    running.checks.set(serving=True)
    assert await read(watch) == Status.NOT_SERVING
    assert await read(watch) is None
    assert await watch.code() is grpc.StatusCode.OK


async def test_who_watches_an_unknown_service_is_told_so_and_stays(running: Running) -> None:
    watch = running.watch("nobody")
    assert await read(watch) == Status.SERVICE_UNKNOWN
    running.checks.set(serving=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(watch.read())), 0.1)
    running.checks.drain()
    async with asyncio.timeout(5):
        assert await watch.code() is grpc.StatusCode.OK


async def test_a_watcher_that_leaves_takes_nothing_from_the_others(running: Running) -> None:
    leaves, stays = running.watch(), running.watch()
    assert [await read(leaves), await read(stays)] == [Status.NOT_SERVING] * 2
    leaves.cancel()
    await until_watched(running, 1)
    running.checks.set(serving=True)
    assert await read(stays) == Status.SERVING


async def test_watchers_beyond_the_limit_are_refused(running: Running) -> None:
    watches = [running.watch() for _ in range(MOST_WATCHERS)]
    await until_watched(running, MOST_WATCHERS)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.watch().read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    watches[0].cancel()
    await until_watched(running, MOST_WATCHERS - 1)
    assert await read(running.watch()) == Status.NOT_SERVING


async def test_a_server_with_watchers_and_no_work_stops_at_once(running: Running) -> None:
    watches = [running.watch(name) for name in ("", NAME, "nobody")]
    for watch in watches:
        await read(watch)
    assert await running.stop(10) < 1


async def test_a_watcher_that_reads_nothing_holds_up_neither_the_status_nor_the_end(
    running: Running,
) -> None:
    request = health_pb2.HealthCheckRequest().SerializeToString()
    peer = await SilentPeer.call(running.address, "/grpc.health.v1.Health/Watch", request)
    await until_watched(running, 1)
    watch = running.watch()
    assert await read(watch) == Status.NOT_SERVING
    running.checks.set(serving=True)
    assert await read(watch) == Status.SERVING
    assert await running.check() == Status.SERVING
    assert await running.stop(10) < 3
    assert await read(watch) == Status.NOT_SERVING
    await peer.close()


async def test_work_ends_before_the_server_does(running: Running) -> None:
    call = running.channel.unary_unary(f"/{NAME}/Work")(b"1.3")
    await until_working(running, 1)
    seconds = await running.stop(10)
    assert await call == b"done"
    assert 1.2 < seconds < 3


async def test_the_server_has_stopped_only_when_the_handlers_that_it_cut_off_have(
    running: Running,
) -> None:
    calls = [running.channel.unary_unary(f"/{NAME}/Work")(b"30") for _ in range(8)]
    await until_working(running, 8)
    assert await running.stop(0.3) < 2
    assert running.ended == ["cut off"] * 8
    for call in calls:
        call.cancel()
