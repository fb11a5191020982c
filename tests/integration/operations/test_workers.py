"""Several gateway processes behave as one service: one port, one set of metrics, one drain."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.harness import serve, serving_repository
from tests.chaos.load import Caller

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MATTE = "headshot.v1.HeadshotService/Matte"
RESTARTS = "headshot_triton_restarts_total"
READY = "headshot_ready"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kept_in_memory() -> set[str]:
    """Return the metrics folders on tmpfs."""
    return {path.name for path in Path("/dev/shm").glob("headshot-metrics-*")}


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def answered(port: int) -> float:
    """Return how many Matte calls were answered, of all workers."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(get(port, "/metrics")[1])
        for sample in family.samples
        if sample.name == "headshot_rpc_duration_seconds_count"
        and sample.labels == {"method": MATTE, "code": "OK"}
    )


def values(port: int, name: str) -> list[float]:
    """Return the values of one name's series."""
    return [
        sample.value
        for family in text_string_to_metric_families(get(port, "/metrics")[1])
        for sample in family.samples
        if sample.name == name
    ]


async def until_ready(port: int) -> None:
    async with asyncio.timeout(200):
        while (await asyncio.to_thread(get, port, "/readyz"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def until_not_ready(port: int) -> None:
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(get, port, "/readyz"))[0] == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_closed(port: int) -> list[int]:
    """Ask for readiness until nothing answers; return the answers."""
    told = []
    async with asyncio.timeout(60):
        while status := (await asyncio.to_thread(get, port, "/readyz"))[0]:
            told.append(status)
            await asyncio.sleep(0.005)
    return told


async def call(address: str, times: int) -> None:
    """Call over connections of their own, which the kernel spreads over the workers."""

    async def once() -> None:
        caller = Caller(address)
        try:
            await caller.learn("matte")
        finally:
            await caller.close()

    await asyncio.gather(*(once() for _ in range(times)))


async def test_two_workers_are_one_service_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    repository, _ = serving_repository(tmp_path)
    port, operations = free_port(), free_port()
    before = kept_in_memory()
    async with serve(repository, port=port, operations_port=operations, workers=2) as gateway:
        await until_ready(operations)
        await call(f"127.0.0.1:{port}", 8)
        assert await asyncio.to_thread(answered, operations) == 8
        workers = [
            child
            for child in psutil.Process(gateway.process.pid).children()
            if "headshot.api.worker" in child.cmdline()
        ]
        assert len(workers) == 2
        workers[0].kill()
        await until_not_ready(operations)
        await until_ready(operations)
        # What the dead worker had counted is still there, and the new one counts on.
        await call(f"127.0.0.1:{port}", 4)
        assert await asyncio.to_thread(answered, operations) == 12
        # Only the parent sees its Triton die.
        assert await asyncio.to_thread(values, operations, RESTARTS) == [0]
        gateway.triton().kill()
        async with asyncio.timeout(200):
            while await asyncio.to_thread(values, operations, RESTARTS) != [1]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            while await asyncio.to_thread(values, operations, READY) != [1]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        ending = asyncio.ensure_future(gateway.terminate())
        told = await until_closed(operations)
        assert 503 in told
        assert 200 not in told[told.index(503) :]
        assert await ending == 0
    assert not kept_in_memory() - before
