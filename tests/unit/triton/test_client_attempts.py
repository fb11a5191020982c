"""How the client tries: limits of one call, cancellation, servers that forget or tell nothing."""

from __future__ import annotations

import asyncio
from collections import Counter

import grpc
import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.triton import client as client_module
from headshot.triton.client import ClientSettings, InferenceClient
from headshot.triton.tensors import TensorSpec
from tritonclient.grpc import service_pb2

from tests.unit.triton.pods import Pod, infer, pod


async def test_a_call_that_a_server_does_not_answer_goes_elsewhere_long_before_the_deadline() -> (
    None
):
    settings = ClientSettings(call_timeout_s=0.5)
    async with (
        pod() as (hangs, _, one),
        pod() as (_, _, other),
        InferenceClient([one, other], settings=settings) as client,
    ):
        hangs.takes_s = 60
        results = [await infer(client, patience_s=5) for _ in range(2)]
        assert hangs.begun == 1
        assert {result.endpoint for result in results} == {other}


@pytest.mark.parametrize("shared_memory", [False, True])
async def test_triton_is_told_the_time_that_is_left_in_microseconds(*, shared_memory: bool) -> None:
    async with (
        pod() as (server, _, address),
        InferenceClient([address], shared_memory=shared_memory) as client,
    ):
        await infer(client, patience_s=20)
        (timeout,) = server.timeouts
        assert 5e6 < timeout <= 20e6


async def test_a_caller_that_leaves_as_its_server_goes_out_of_use_is_not_served_elsewhere() -> None:
    async with (
        pod() as (hangs, _, one),
        pod() as (also_hangs, _, other),
        InferenceClient([one, other]) as client,
    ):
        hangs.takes_s = also_hangs.takes_s = 60
        work = asyncio.create_task(infer(client))
        async with asyncio.timeout(10):
            while not hangs.begun + also_hangs.begun:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        begun_at = client.endpoints[0 if hangs.begun else 1]
        begun_at.eject("for the test")
        work.cancel()
        await asyncio.wait([work], timeout=10)
        assert work.cancelled()
        assert hangs.begun + also_hangs.begun == 1


class Taciturn(Pod):
    """Does not tell its statistics the first time.

    Attributes:
        asked: how often it was asked for them.
    """

    def __init__(self) -> None:
        super().__init__(0, Counter())
        self.asked = 0

    async def ModelStatistics(self, request, context):
        self.asked += 1
        if self.asked == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return service_pb2.ModelStatisticsResponse()


async def test_a_server_that_does_not_tell_its_statistics_once_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_SAMPLE_S", 0.01)
    taciturn = Taciturn()
    async with (
        pod(made=taciturn) as (_, _, address),
        InferenceClient([address]) as client,
        asyncio.timeout(10),
    ):
        while taciturn.asked < 2:
            await infer(client)


class Forgetful(Pod):
    """Works only on the memory that was registered since it last forgot."""

    def __init__(self) -> None:
        super().__init__(0, Counter())
        self.known: set[str] = set()

    async def SystemSharedMemoryRegister(self, request, context):
        self.known.add(request.name)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def ModelInfer(self, request, context):
        region = request.inputs[0].parameters["shared_memory_region"].string_param
        if region not in self.known:
            details = f"Unable to find shared memory region: '{region}'"
            await context.abort(grpc.StatusCode.NOT_FOUND, details)
        return await super().ModelInfer(request, context)


async def test_a_server_that_forgot_the_shared_memory_is_told_of_it_again() -> None:
    forgetful = Forgetful()
    photo = {"x": np.ones((300, 300), np.float32)}
    async with pod(made=forgetful) as (_, _, address), InferenceClient([address]) as client:
        client.set_contract("model", lambda _: {"y": TensorSpec(np.dtype(np.float32), (1, 1))})
        for _ in range(2):
            await client.infer("model", photo, deadline=Deadline.after(20))
            forgetful.known.clear()
        assert forgetful.begun == 2
