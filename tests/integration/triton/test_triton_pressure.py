"""Full queues, deadlines and cancellation, on a model that is slow and runs one row at a time."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from headshot.deadline import Deadline
from headshot.errors import DeadlineError, OverloadedError
from headshot.triton.client import InferenceClient
from headshot.triton.failures import classify
from headshot.triton.stats import ModelStatistics
from headshot.triton.tensors import add_inputs
from tritonclient.grpc import service_pb2

from tests.integration.triton.conftest import denoiser_inputs, until

_SLOW = "denoiser_slow"
_QUEUE = 4  # its max_queue_size


async def _statistics(client: InferenceClient) -> ModelStatistics:
    (endpoint,) = client.endpoints
    return (await client.statistics())[endpoint.url][_SLOW]


async def _settled(client: InferenceClient, rows: int) -> ModelStatistics:
    """Read statistics, which Triton writes after it answered, until they hold `rows` rows."""
    async with asyncio.timeout(10):
        while (reading := await _statistics(client)).inference_count < rows:
            pass
    return reading


async def test_cancelled_steps_are_dropped_from_tritons_queue(tiny_client: InferenceClient) -> None:
    inputs = denoiser_inputs(1)
    await tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(60))
    before = await _settled(tiny_client, 1)
    running = asyncio.create_task(tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(60)))
    waiting = [
        asyncio.create_task(tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(60)))
        for _ in range(3)
    ]
    await _pending(tiny_client, 4)
    for task in waiting:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await running
    # The queue is first in, first out: when this one is done, no cancelled one can still come.
    await tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(60))
    period = (await _settled(tiny_client, before.inference_count + 2)).since(before)
    assert period.inference_count < 5
    assert period.execution_count == period.inference_count


async def _pending(client: InferenceClient, count: int) -> None:
    """Wait until `count` calls are under way at the only endpoint."""
    (endpoint,) = client.endpoints
    await until(lambda: len(endpoint.flights) >= count)


async def test_a_full_queue_is_overload_with_a_time_to_retry(tiny_client: InferenceClient) -> None:
    inputs = denoiser_inputs(2)
    results = await asyncio.gather(
        *(tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(60)) for _ in range(_QUEUE + 6)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert refused
    for error in refused:
        assert isinstance(error, OverloadedError)
        assert error.reason == "MODEL_QUEUE_FULL"
        assert error.retry_after_s
    assert len(results) - len(refused) >= _QUEUE


async def test_a_deadline_in_the_queue_is_a_deadline_error(tiny_client: InferenceClient) -> None:
    inputs = denoiser_inputs(3)
    ahead = [
        asyncio.create_task(tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(60)))
        for _ in range(2)
    ]
    await _pending(tiny_client, 2)
    with pytest.raises(DeadlineError):
        await tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(0.03))
    await asyncio.gather(*ahead)


async def test_tritons_own_queue_expiry_is_told_from_a_lost_connection(
    tiny_client: InferenceClient,
) -> None:
    inputs = denoiser_inputs(4)
    ahead = [
        asyncio.create_task(tiny_client.infer(_SLOW, inputs, deadline=Deadline.after(60)))
        for _ in range(_QUEUE)
    ]
    await _pending(tiny_client, _QUEUE)
    request = service_pb2.ModelInferRequest(model_name=_SLOW)
    request.parameters["timeout"].int64_param = 1000
    add_inputs(request, inputs)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await tiny_client.endpoints[0].stub.ModelInfer(request, timeout=60)
    failure = classify(raised.value, _SLOW, deadline_expired=True)
    assert isinstance(failure.error, DeadlineError)
    assert not failure.elsewhere
    await asyncio.gather(*ahead)


async def test_an_expired_deadline_sends_nothing(tiny_client: InferenceClient) -> None:
    with pytest.raises(DeadlineError):
        await tiny_client.infer(_SLOW, denoiser_inputs(5), deadline=Deadline.after(0))


async def test_an_urgent_request_goes_ahead_of_those_that_wait(
    tiny_client: InferenceClient,
) -> None:
    order: list[str] = []

    async def send(name: str, priority: int) -> None:
        await tiny_client.infer(
            _SLOW, denoiser_inputs(6), deadline=Deadline.after(60), priority=priority
        )
        order.append(name)

    patient = [asyncio.create_task(send(f"patient {number}", 0)) for number in range(_QUEUE)]
    await _pending(tiny_client, _QUEUE)
    await asyncio.gather(send("urgent", 1), *patient)
    assert order.index("urgent") < len(order) - 1
