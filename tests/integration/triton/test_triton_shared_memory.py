"""Shared memory changes how tensors travel, and nothing else."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.triton.client import InferenceClient
from headshot.triton.server import EmbeddedTriton
from headshot.triton.shared_memory import SharedMemoryPool, SharedMemorySettings
from headshot.triton.tensors import TensorSpec
from tritonclient.grpc import service_pb2

from tests.integration.triton.conftest import denoiser_inputs, image, until

_IMAGE = TensorSpec(np.dtype(np.uint8), (1, 512, 512, 3))


async def test_answers_are_the_same_with_and_without_shared_memory(
    tiny_triton: EmbeddedTriton, tiny_client: InferenceClient
) -> None:
    async with InferenceClient([tiny_triton.grpc_url], shared_memory=False) as plain:
        for model, inputs in (
            ("denoiser", denoiser_inputs(7)),
            ("matting", {"image": image(7)}),
            ("face_detector", {"image": image(7, 640)}),
            ("upscaler", {"image": image(7, 200)}),
            ("upscaler", {"image": image(7, 3)}),
        ):
            one = await plain.infer(model, inputs, deadline=Deadline.after(30))
            two = await tiny_client.infer(model, inputs, deadline=Deadline.after(30))
            assert one.outputs.keys() == two.outputs.keys()
            for name, array in one.outputs.items():
                np.testing.assert_array_equal(array, two.outputs[name])


async def test_an_answer_keeps_its_memory_while_it_is_in_use(
    tiny_triton: EmbeddedTriton, tiny_client: InferenceClient
) -> None:
    views = []
    for seed in range(12):
        result = await tiny_client.infer(
            "matting", {"image": image(seed)}, deadline=Deadline.after(30)
        )
        views.append(result.outputs["alpha"][0, ::4, ::4])
    async with InferenceClient([tiny_triton.grpc_url], shared_memory=False) as plain:
        for seed, view in enumerate(views):
            expected = await plain.infer(
                "matting", {"image": image(seed)}, deadline=Deadline.after(30)
            )
            np.testing.assert_array_equal(view, expected.outputs["alpha"][0, ::4, ::4])


async def test_memory_is_reused_when_answers_are_gone_and_removed_at_the_end(
    tiny_triton: EmbeddedTriton,
) -> None:
    client = InferenceClient([tiny_triton.grpc_url])
    assert client.shared_memory is not None
    async with client:
        for seed in range(20):
            await client.infer("matting", {"image": image(seed)}, deadline=Deadline.after(30))
        reserved = client.shared_memory.reserved_bytes
        files = client.shared_memory.files
        assert 0 < reserved <= 32 << 20
        assert all(path.exists() for path in files)
    assert not any(path.exists() for path in files)


async def test_a_client_that_ends_leaves_no_region_with_the_server(
    tiny_triton: EmbeddedTriton, tiny_client: InferenceClient
) -> None:
    async def regions() -> set[str]:
        request = service_pb2.SystemSharedMemoryStatusRequest()
        answer = await tiny_client.endpoints[0].stub.SystemSharedMemoryStatus(request, timeout=10)
        return set(answer.regions)

    before = await regions()
    async with InferenceClient([tiny_triton.grpc_url]) as client:
        await client.infer("matting", {"image": image(1)}, deadline=Deadline.after(30))
        assert len(await regions() - before) == 1
    assert await regions() == before


async def test_a_deadline_that_passed_registers_nothing(tiny_client: InferenceClient) -> None:
    pool = SharedMemoryPool()
    (endpoint,) = tiny_client.endpoints
    try:
        lease = await pool.lease(endpoint, {"image": image(1)}, {}, Deadline.after(-1))
        assert not lease.inputs
    finally:
        pool.close()


async def test_a_cancelled_calls_output_is_not_given_to_another(
    tiny_triton: EmbeddedTriton,
) -> None:
    async with InferenceClient([tiny_triton.grpc_url]) as client:
        inputs = denoiser_inputs(8)
        expected = await client.infer("denoiser_slow", inputs, deadline=Deadline.after(60))
        other = denoiser_inputs(9)
        tasks = [
            asyncio.create_task(client.infer("denoiser_slow", other, deadline=Deadline.after(60)))
            for _ in range(2)
        ]
        await until(lambda: len(client.endpoints[0].flights) == 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(2):
            again = await client.infer("denoiser_slow", inputs, deadline=Deadline.after(60))
            np.testing.assert_array_equal(
                again.outputs["prediction"], expected.outputs["prediction"]
            )


async def test_what_lies_in_shared_memory_is_sent_as_it_is_and_wiped_when_it_is_gone(
    tiny_triton: EmbeddedTriton,
) -> None:
    async with InferenceClient([tiny_triton.grpc_url], shared_memory=False) as plain:
        pictures = [image(seed) for seed in (3, 4)]
        expected = [
            await plain.infer("matting", {"image": one}, deadline=Deadline.after(30))
            for one in pictures
        ]
    async with InferenceClient([tiny_triton.grpc_url]) as client:
        pool = client.shared_memory
        assert pool is not None
        (endpoint,) = client.endpoints
        with client.room(_IMAGE) as shown:
            lease = await pool.lease(endpoint, {"image": shown}, {}, Deadline.after(30))
            assert lease.inputs["image"].array(_IMAGE).ctypes.data == shown.ctypes.data
            lease.close(endpoint, "matting", ended=True)
            for picture, wanted in zip(pictures, expected, strict=True):
                shown[:] = picture
                answer = await client.infer(
                    "matting", {"image": shown}, deadline=Deadline.after(30)
                )
                np.testing.assert_array_equal(answer.outputs["alpha"], wanted.outputs["alpha"])
                np.testing.assert_array_equal(shown, picture)
            del answer
            assert any(any(path.read_bytes()) for path in pool.files)
        assert not any(any(path.read_bytes()) for path in pool.files)


async def test_room_is_ordinary_memory_where_none_is_left(tiny_triton: EmbeddedTriton) -> None:
    async with InferenceClient([tiny_triton.grpc_url]) as client:
        client.shared_memory = SharedMemoryPool(SharedMemorySettings(max_bytes=1 << 20))
        with client.room(_IMAGE) as shown:
            shown[:] = image(1)
            result = await client.infer("matting", {"image": shown}, deadline=Deadline.after(30))
        assert result.outputs["alpha"].shape == (1, 512, 512, 1)
        assert client.shared_memory.reserved_bytes == 0


async def test_used_up_memory_means_the_wire(tiny_triton: EmbeddedTriton) -> None:
    client = InferenceClient([tiny_triton.grpc_url])
    client.shared_memory = SharedMemoryPool(SharedMemorySettings(max_bytes=1 << 20))
    async with client:
        result = await client.infer("matting", {"image": image(1)}, deadline=Deadline.after(30))
    assert result.outputs["alpha"].shape == (1, 512, 512, 1)
    assert client.shared_memory.reserved_bytes == 0


async def test_blocks_never_overlap(tiny_client: InferenceClient) -> None:
    pool = SharedMemoryPool()
    (endpoint,) = tiny_client.endpoints
    try:
        random = np.random.default_rng(0)
        held = []
        for _ in range(30):
            side = int(random.integers(160, 600))
            array = random.integers(0, 256, (1, side, side, 3), dtype=np.uint8)
            lease = await pool.lease(
                endpoint, {"image": array}, {"out": _IMAGE}, Deadline.after(30)
            )
            held.append((lease, array))
            if random.random() < 0.4:
                held.pop(int(random.integers(len(held))))[0].close(endpoint, "m", ended=True)
            for kept, expected in held:
                spec = TensorSpec(expected.dtype, expected.shape)
                np.testing.assert_array_equal(kept.inputs["image"].array(spec), expected)
        assert pool.reserved_bytes <= 256 << 20
    finally:
        pool.close()
        gc.collect()


def test_the_segments_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    left = Path("/dev/shm/headshot-tensors-0123456789abcdef")
    left.write_bytes(b"x")
    SharedMemoryPool().close()
    assert not left.exists()


def test_a_block_of_an_unfinished_call_waits_for_a_later_answer(
    tiny_client: InferenceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = SharedMemoryPool()
    (endpoint,) = tiny_client.endpoints
    now = 1000.0
    monkeypatch.setattr("headshot.triton.shared_memory.time.monotonic", lambda: now)
    try:
        block = pool.take(100_000)
        assert block is not None
        pool.set_aside(block, endpoint, "matting")
        assert pool.take(100_000) != block
        now = 1030.0
        pool.answered(endpoint, "matting", sent_at=1029.0)
        assert pool.take(100_000) != block
        now = 1070.0
        pool.answered(endpoint, "denoiser", sent_at=1069.0)
        assert pool.take(100_000) != block
        pool.answered(endpoint, "matting", sent_at=1069.0)
        assert pool.take(100_000) == block
    finally:
        pool.close()


async def test_nothing_of_a_photo_stays_in_shared_memory(tiny_triton: EmbeddedTriton) -> None:
    async with InferenceClient([tiny_triton.grpc_url]) as client:
        assert client.shared_memory is not None
        result = await client.infer("matting", {"image": image(1)}, deadline=Deadline.after(30))
        (path,) = client.shared_memory.files
        assert any(path.read_bytes())
        del result
        gc.collect()
        assert not any(path.read_bytes())
