"""Which endpoint gets the work, when one is taken out of use, and when it comes back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from headshot.triton.client import InferenceClient
from headshot.triton.endpoints import Endpoint, EndpointPool, ProbeSettings

from tests.unit.triton.pods import infer, pod

QUICK = ProbeSettings(interval_s=0.01)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The endpoints' clock, which only the test moves."""
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("headshot.triton.endpoints.time", clock)
    return now


async def test_an_endpoint_that_breaks_again_and_again_is_left_alone_for_longer(
    now: list[float],
) -> None:
    endpoint = Endpoint("127.0.0.1:1", ProbeSettings())

    def held_for() -> float:
        endpoint.broke()
        assert endpoint.held
        begun = now[0]
        while endpoint.held:
            now[0] += 0.5
        endpoint.restore()
        return now[0] - begun

    assert [held_for() for _ in range(5)] == [2, 4, 8, 10, 10]
    endpoint.succeeded()
    assert held_for() == 2
    await endpoint.channel.close()


async def test_only_calls_that_time_out_in_a_row_take_an_endpoint_out_of_use() -> None:
    endpoint = Endpoint("127.0.0.1:1", ProbeSettings(slow_calls=2))
    endpoint.timed_out()
    endpoint.succeeded()
    endpoint.timed_out()
    assert endpoint.healthy
    endpoint.timed_out()
    assert not endpoint.healthy
    await endpoint.channel.close()


async def test_an_endpoint_with_a_dead_model_is_not_back_before_its_time_though_it_looks_healthy(
    now: list[float],
) -> None:
    async with pod() as (server, _, address):
        pool = EndpointPool([address], QUICK)
        (endpoint,) = pool.endpoints
        endpoint.broke()
        pool.start()
        async with asyncio.timeout(10):
            while server.probes < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert not endpoint.healthy
        now[0] += 3
        assert await pool.wait_restored(10)
        await pool.close()


async def test_what_is_under_way_at_an_endpoint_that_goes_out_of_use_is_done_elsewhere() -> None:
    async with (
        pod() as (hangs, _, one),
        pod() as (serves, _, other),
        InferenceClient([one, other]) as client,
    ):
        hangs.takes_s = 60
        work = [asyncio.create_task(infer(client)) for _ in range(2)]
        async with asyncio.timeout(10):
            while not (hangs.begun and serves.begun):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        client.endpoints[0].eject("for the test")
        results = await asyncio.wait_for(asyncio.gather(*work), 10)
        assert {result.endpoint for result in results} == {other}


async def test_work_goes_to_the_endpoint_with_the_least_under_way() -> None:
    async with (
        pod() as (busy, _, one),
        pod() as (idle, _, other),
        InferenceClient([one, other]) as client,
    ):
        for _ in range(10):
            await infer(client)
        assert (busy.begun, idle.begun) == (5, 5)  # equally loaded ones take turns
        busy.takes_s = 60
        work = [asyncio.create_task(infer(client)) for _ in range(2)]
        async with asyncio.timeout(10):
            while busy.begun < 6:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for _ in range(10):
            await infer(client)
        assert (busy.begun, idle.begun) == (6, 16)
        for task in work:
            task.cancel()
        await asyncio.wait(work)
