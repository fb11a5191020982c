"""Servers that answer nonsense, slowly or never."""

from __future__ import annotations

import asyncio

import pytest
from headshot.deadline import Deadline
from headshot.errors import DeadlineError, ModelContractError
from headshot.triton.client import ClientSettings, InferenceClient
from headshot.triton.endpoints import ProbeSettings

from tests.integration.triton.conftest import image, until
from tests.integration.triton.impostor import Answer, Impostor, alpha, serving

_PROBES = ProbeSettings(interval_s=0.05, slow_calls=2)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(alpha(shape=(1, 256, 256, 1)), id="small"),
        pytest.param(alpha(shape=(2, 512, 512, 1)), id="rows"),
        pytest.param(alpha(datatype="INT8"), id="type"),
        pytest.param(alpha(size=1000), id="short"),
        pytest.param(alpha(size=0), id="empty"),
    ],
)
async def test_an_answer_of_a_wrong_form_is_never_used(answer: Answer) -> None:
    async with serving(Impostor(answer)) as url, InferenceClient([url]) as client:
        with pytest.raises(ModelContractError) as raised:
            await client.infer("matting", {"image": image(0)}, deadline=Deadline.after(10))
    assert raised.value.metadata["field"] == "alpha"


async def test_a_server_that_shares_no_memory_gets_tensors_over_the_wire() -> None:
    async with serving(Impostor(alpha())) as url, InferenceClient([url]) as client:
        for _ in range(2):
            await client.infer("matting", {"image": image(0)}, deadline=Deadline.after(10))


async def test_a_server_that_never_answers_is_left_for_another() -> None:
    silent, good = Impostor(alpha(), hang=True), Impostor(alpha())
    settings = ClientSettings(call_timeout_s=0.3, probes=_PROBES)
    async with (
        serving(silent) as silent_url,
        serving(good) as good_url,
        InferenceClient([silent_url, good_url], settings=settings) as client,
    ):
        answers = [
            await client.infer("matting", {"image": image(0)}, deadline=Deadline.after(10))
            for _ in range(6)
        ]
        assert {answer.endpoint for answer in answers} == {good_url}
        assert client.endpoints[0].ejections >= 1
        assert client.endpoints[1].ejections == 0
    assert silent.calls <= 4


async def test_a_silent_server_costs_no_more_than_the_deadline() -> None:
    async with serving(Impostor(alpha(), hang=True)) as url, InferenceClient([url]) as client:
        deadline = Deadline.after(0.3)
        with pytest.raises(DeadlineError):
            await client.infer("matting", {"image": image(0)}, deadline=deadline)
        assert Deadline.after(0).at - deadline.at < 0.5


async def test_cancelling_the_task_cancels_the_call_at_the_server() -> None:
    silent = Impostor(alpha(), hang=True)
    async with serving(silent) as url, InferenceClient([url]) as client:
        task = asyncio.create_task(
            client.infer("matting", {"image": image(0)}, deadline=Deadline.after(60))
        )
        await asyncio.wait_for(silent.arrived.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: silent.cancelled == 1, timeout_s=10)
        assert not client.endpoints[0].flights


async def test_a_server_that_says_it_is_not_ready_gets_no_work_until_it_is() -> None:
    busy, good = Impostor(alpha(), ready=False), Impostor(alpha())
    settings = ClientSettings(probes=_PROBES)
    async with (
        serving(busy) as busy_url,
        serving(good) as good_url,
        InferenceClient([busy_url, good_url], settings=settings) as client,
    ):
        await until(lambda: not client.endpoints[0].healthy)
        for _ in range(4):
            answer = await client.infer("matting", {"image": image(0)}, deadline=Deadline.after(10))
            assert answer.endpoint == good_url
        busy.ready = True
        await until(lambda: client.endpoints[0].healthy)
    assert busy.calls == 0


async def test_a_server_whose_models_differ_gets_no_work_when_it_comes_back() -> None:
    first, second = Impostor(alpha(), ready=False), Impostor(alpha())
    settings = ClientSettings(probes=_PROBES)
    async with (
        serving(first) as first_url,
        serving(second) as second_url,
        InferenceClient([first_url, second_url], settings=settings) as client,
    ):
        checked = asyncio.Event()

        async def refuse(_: object) -> bool:
            checked.set()
            return False

        client.verify_restored(refuse)
        await until(lambda: not client.endpoints[0].healthy)
        first.ready = True
        await asyncio.wait_for(checked.wait(), 10)
        answer = await client.infer("matting", {"image": image(0)}, deadline=Deadline.after(10))
        assert answer.endpoint == second_url
        assert not client.endpoints[0].healthy
