"""A team's stream on a real server: callers that fall silent, and a service that stops."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from headshot.api import team
from headshot.api.draining import stop_server
from headshot.api.interceptors import OpenCalls, server_interceptors
from headshot.api.servicer import HeadshotServicer
from headshot.client import AsyncHeadshotClient, HeadshotCallError
from headshot.errors import NoUsablePhotoError
from headshot.pipeline.service import Pipeline
from headshot.telemetry.tracing import NullTracing
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc

from tests.unit.api.parts import Parts, person

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # The stubs lack it.
SETTINGS = pb.CreateHeadshotsRequest(settings=pb.TeamSettings())


class Slow(Pipeline):
    """A pipeline whose work takes half a second and finds nothing."""

    async def create(self, *_: object) -> NoReturn:
        await asyncio.sleep(0.5)
        raise NoUsablePhotoError("none")


@dataclass
class Running:
    """The service and a caller of it."""

    server: grpc.aio.Server
    stub: Any
    address: str = ""
    calls: OpenCalls = field(default_factory=lambda: OpenCalls("/headshot.v1.HeadshotService/"))
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, *messages: pb.CreateHeadshotsRequest) -> Any:
        """Send messages, and leave the stream open."""
        call = self.stub.CreateHeadshots(timeout=20)
        for message in messages:
            await call.write(message)
        return call

    async def stop(self) -> float:
        """Stop as the gateway does; return the seconds that it took."""
        begun = time.perf_counter()
        self.draining.set()
        async with asyncio.timeout(20):
            await stop_server(self.server, self.calls, 10)
        return time.perf_counter() - begun


@pytest_asyncio.fixture
async def running(parts: Parts) -> AsyncIterator[Running]:
    running = Running(None, None)  # type: ignore[arg-type]
    chain = server_interceptors(parts.metrics, NullTracing(), None)
    running.server = grpc.aio.server(interceptors=[running.calls, *chain])
    servicer = HeadshotServicer(
        parts.settings,
        Slow(parts.pipeline._engine, parts.settings),
        parts.sessions,
        parts.templates,
        parts.audit,
        running.draining,
    )
    headshot_service_pb2_grpc.add_HeadshotServiceServicer_to_server(servicer, running.server)
    port = running.server.add_insecure_port("127.0.0.1:0")
    await running.server.start()
    running.address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(running.address) as channel:
        running.stub = headshot_service_pb2_grpc.HeadshotServiceStub(channel)
        yield running
    await running.server.stop(None)


async def end(call: Any) -> tuple[list[str], grpc.StatusCode, str]:
    """Return the items that had an outcome, the code and its reason."""
    items = []
    async with asyncio.timeout(15):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while (response := await call.read()) is not EOF:
                items.append(response.item_id)
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return items, caught.value.code(), info.reason


async def test_a_stream_without_settings_ends(running: Running, monkeypatch) -> None:
    monkeypatch.setattr(team, "_SETTINGS_S", 0.2)
    call = await running.open()
    assert await end(call) == ([], grpc.StatusCode.ABORTED, "STREAM_IDLE")


async def test_a_stream_on_which_nothing_happens_ends_but_work_is_no_silence(
    running: Running, monkeypatch
) -> None:
    monkeypatch.setattr(team, "_IDLE_S", 0.3)
    call = await running.open(SETTINGS, person("a"))
    assert await end(call) == (["a"], grpc.StatusCode.ABORTED, "STREAM_IDLE")


@pytest.mark.parametrize("messages", [(), (SETTINGS,)], ids=["nothing", "settings"])
async def test_a_stream_on_which_nothing_happens_does_not_hold_up_the_end(
    running: Running, messages
) -> None:
    call = await running.open(*messages)
    await call.wait_for_connection()
    await asyncio.sleep(0.1)
    ended = asyncio.ensure_future(end(call))
    assert await running.stop() < 2
    assert await ended == ([], grpc.StatusCode.UNAVAILABLE, "SERVICE_STOPPING")


async def test_items_that_were_begun_have_their_outcomes_before_the_service_ends(
    running: Running,
) -> None:
    call = await running.open(SETTINGS, person("a"), person("b"))
    await asyncio.sleep(0.2)
    ended = asyncio.ensure_future(end(call))
    assert await running.stop() < 4
    items, code, reason = await ended
    assert (sorted(items), code, reason) == (
        ["a", "b"],
        grpc.StatusCode.UNAVAILABLE,
        "SERVICE_STOPPING",
    )


async def test_a_sender_that_never_pauses_is_told_at_once_that_the_service_stops(
    running: Running,
) -> None:
    call = await running.open(SETTINGS)

    async def send() -> None:
        for number in range(200):
            await call.write(person(str(number)))

    async def read() -> list[str]:
        names = []
        # The code is not looked at: a send that fails hides it from this kind of stub.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while (response := await call.read()) is not EOF:
                names.append(response.item_id)
        return names

    sending, reading = asyncio.ensure_future(send()), asyncio.ensure_future(read())
    await asyncio.sleep(0.8)
    assert await running.stop() < 3
    async with asyncio.timeout(5):
        names = await reading
        sending.cancel()
        await asyncio.wait([sending])
    # Half a second each, four at a time: two rounds at most were begun before.
    assert 4 <= len(names) <= 8


async def test_the_client_tells_a_sender_that_never_pauses_that_the_service_stops(
    running: Running,
) -> None:
    people = (person(str(number)).item for number in range(200))
    names: list[str] = []

    async def make() -> None:
        async with AsyncHeadshotClient(running.address) as client:
            async for response in client.create_headshots(pb.TeamSettings(), people, 20):
                names.append(response.item_id)

    making = asyncio.ensure_future(make())
    await asyncio.sleep(0.8)
    assert await running.stop() < 3
    with pytest.raises(HeadshotCallError) as caught:
        async with asyncio.timeout(5):
            await making
    assert (caught.value.code, caught.value.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "SERVICE_STOPPING",
    )
    assert 4 <= len(names) <= 8
