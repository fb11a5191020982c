"""The output of a call that was cut off: kept from others, and wiped without any further call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.errors import DeadlineError, ModelExecutionError
from headshot.triton import shared_memory
from headshot.triton.client import InferenceClient
from headshot.triton.endpoints import Endpoint, ProbeSettings
from headshot.triton.shared_memory import Block, SharedMemoryPool
from headshot.triton.tensors import TensorSpec
from tritonclient.grpc import service_pb2, service_pb2_grpc

_SPEC = TensorSpec(np.dtype(np.uint8), (300, 300))


@pytest.fixture
def pool() -> Iterator[SharedMemoryPool]:
    made = SharedMemoryPool()
    yield made
    made.close()


def with_pixels(pool: SharedMemoryPool) -> Block:
    """Return a block that somebody's picture was written to."""
    block = pool.take(90_000)
    assert block is not None
    write_to(block)
    return block


def write_to(block: Block) -> None:
    block.array(_SPEC)[:] = 200


def any_pixels(pool: SharedMemoryPool) -> bool:
    return any(any(path.read_bytes()) for path in pool.files)


async def test_what_is_set_aside_is_wiped_each_minute_and_still_kept_from_others(
    pool: SharedMemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("headshot.triton.shared_memory.time.monotonic", lambda: now)
    endpoint = Endpoint("127.0.0.1:1", ProbeSettings())
    block = with_pixels(pool)
    pool.set_aside(block, endpoint, "upscaler")
    now = 1059.0
    pool.sweep()
    assert any_pixels(pool)
    now = 1061.0
    pool.sweep()
    assert not any_pixels(pool)
    assert pool.take(90_000) != block
    write_to(block)  # the server was later still
    now = 1122.0
    pool.sweep()
    assert not any_pixels(pool)
    write_to(block)
    pool.answered(endpoint, "upscaler", sent_at=1121.0)
    assert not any_pixels(pool)
    assert pool.take(90_000) == block
    await endpoint.channel.close()


def test_a_room_is_given_to_others_when_it_is_gone_and_wiped_until_then(
    pool: SharedMemoryPool,
) -> None:
    with pool.room(_SPEC) as shown:
        shown[:] = 200
    assert not any_pixels(pool)
    shown[:] = 200  # a thread that was not done
    with pool.room(_SPEC) as other:
        assert other.ctypes.data != shown.ctypes.data
    pool.sweep()
    assert not any_pixels(pool)
    place = shown.ctypes.data
    del shown, other
    pool.sweep()
    with pool.room(_SPEC) as again, pool.room(_SPEC) as more:
        assert place in (again.ctypes.data, more.ctypes.data)
        again[:] = 200
        pool.sweep()
        assert (again == 200).all()


def test_a_room_of_a_closed_pool_is_ordinary_memory(pool: SharedMemoryPool) -> None:
    pool.close()
    with pool.room(_SPEC) as shown:
        shown[:] = 200
    assert not pool.files


class SlowServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Writes its output where it was asked to and never answers, or with a failure."""

    def __init__(self, *, fails: bool = False) -> None:
        self.folder = Path("/dev/shm")
        self.key = ""
        self.fails = fails
        self.written = asyncio.Event()

    async def SystemSharedMemoryRegister(self, request, context):
        self.key = request.key.lstrip("/")
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def ModelInfer(self, request, context):
        with (self.folder / self.key).open("r+b") as segment:
            segment.seek(request.outputs[0].parameters["shared_memory_offset"].int64_param)
            segment.write(b"p" * 90_000)
        self.written.set()
        if self.fails:
            await context.abort(grpc.StatusCode.INTERNAL, "out of memory")
        await asyncio.sleep(60)


@asynccontextmanager
async def serving(triton: SlowServer) -> AsyncIterator[tuple[InferenceClient, SharedMemoryPool]]:
    """Serve for the length of the block; yield a client and its memory."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with InferenceClient([address]) as client:
            assert client.shared_memory is not None
            client.set_contract("upscaler", lambda _inputs: {"image": _SPEC})
            yield client, client.shared_memory
    finally:
        await server.stop(None)


@pytest.mark.parametrize("fails", [False, True])
async def test_the_output_of_a_failed_call_is_kept_from_others_unless_the_server_has_ended_it(
    *, fails: bool
) -> None:
    async with serving(SlowServer(fails=fails)) as (client, pool):
        with pytest.raises(ModelExecutionError if fails else DeadlineError):
            await client.infer("upscaler", {}, deadline=Deadline.after(20 if fails else 0.3))
        assert any_pixels(pool) is not fails
        block = pool.take(90_000)
        assert block is not None
        assert (block.offset == 0) is fails


async def test_a_client_without_further_calls_wipes_the_output_of_one_that_was_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_memory, "_QUARANTINE_S", 0.3)
    triton = SlowServer()
    async with serving(triton) as (client, pool), asyncio.timeout(20):
        call = asyncio.create_task(client.infer("upscaler", {}, deadline=Deadline.after(30)))
        await triton.written.wait()
        call.cancel()
        await asyncio.wait([call])
        assert any_pixels(pool)
        while any_pixels(pool):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
