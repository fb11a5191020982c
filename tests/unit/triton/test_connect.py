"""A gateway waits for external servers: it may start before them, and a wrong model ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from headshot.api.gateway import Gateway, serve_until
from headshot.config import Settings
from headshot.deadline import Deadline
from headshot.errors import ModelContractError, ModelUnavailableError
from headshot.triton import connect as connecting
from headshot.triton.client import ClientSettings, InferenceClient
from headshot.triton.connect import connect
from headshot.triton.endpoints import ProbeSettings
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tests.integration.triton.tiny_repository import MODELS, PARAMETERS, write_config

QUICK = ClientSettings(probes=ProbeSettings(interval_s=0.05))


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Tells of the five models as a server does; it loads one more for each time it is asked."""

    def __init__(self, folder: Path, loaded: int = len(MODELS)) -> None:
        self.loaded, self.asked, self.served = loaded, 0, 0
        self.configs: dict[str, model_config_pb2.ModelConfig] = {}
        for model in MODELS:
            write_config(folder / model, model, backend="openvino", parameters=PARAMETERS[model])
            text = (folder / model / "config.pbtxt").read_text()
            self.configs[model] = text_format.Parse(text, model_config_pb2.ModelConfig())

    async def RepositoryIndex(self, request, context):
        answer = service_pb2.RepositoryIndexResponse()
        for model in MODELS[: self.loaded + self.asked]:
            answer.models.add(name=model, version="1", state="READY")
        self.asked += 1
        return answer

    async def ModelConfig(self, request, context):
        return service_pb2.ModelConfigResponse(config=self.configs[request.name])

    async def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelInfer(self, request, context):
        self.served += 1
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="embedding", datatype="FP32", shape=[1, 128])
        answer.raw_output_contents.append(bytes(4 * 128))
        return answer


@asynccontextmanager
async def running(triton: Triton, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serve for the length of the block; yield the address."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def free_address(triton: Triton) -> str:
    async with running(triton) as address:
        return address


async def profile_of(address: str, patience_s: float = 30.0, *, wait: bool = True) -> str:
    client, models = await connect(
        lambda: InferenceClient([address]), Deadline.after(patience_s), wait=wait
    )
    await client.close()
    return models.profile


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_PAUSE_S", 0.05)


async def test_a_gateway_that_starts_first_waits_for_the_server_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    triton = Triton(tmp_path)
    address = await free_address(triton)
    with caplog.at_level(logging.WARNING, "headshot.triton.connect"):
        profile = asyncio.create_task(profile_of(address))
        await asyncio.sleep(0.5)
        assert not profile.done()
        async with running(triton, address):
            assert await profile == "compact"
    (line,) = caplog.messages
    assert address in line


async def test_models_that_still_load_are_waited_for(tmp_path: Path) -> None:
    triton = Triton(tmp_path, loaded=2)
    async with running(triton) as address:
        assert await profile_of(address) == "compact"
    assert triton.asked == 4


async def test_a_model_that_differs_from_the_contract_is_told_at_once(tmp_path: Path) -> None:
    triton = Triton(tmp_path)
    triton.configs["matting"].output[0].dims[0] = 7
    async with running(triton) as address:
        with pytest.raises(ModelContractError, match="matting"):
            await profile_of(address)
    assert triton.asked == 1


async def test_a_wrong_model_is_told_though_another_server_is_not_there_yet(tmp_path: Path) -> None:
    triton = Triton(tmp_path)
    triton.configs["matting"].output[0].dims[0] = 7
    nowhere = await free_address(triton)
    async with running(triton) as address:
        with pytest.raises(ModelContractError, match="matting"):
            await connect(
                lambda: InferenceClient([nowhere, address]), Deadline.after(30), wait=True
            )


async def test_servers_whose_models_differ_are_refused_at_start(tmp_path: Path) -> None:
    first, second = Triton(tmp_path / "first"), Triton(tmp_path / "second")
    second.configs["identity_encoder"].parameters["match_threshold"].string_value = "0.9"
    async with running(first) as one, running(second) as other:
        with pytest.raises(ModelContractError, match=f"{other} differ"):
            await connect(lambda: InferenceClient([one, other]), Deadline.after(30), wait=True)


async def test_a_server_that_could_not_be_read_is_out_of_use_from_the_start(tmp_path: Path) -> None:
    triton = Triton(tmp_path)
    late = await free_address(triton)
    async with running(triton) as address:
        client, _ = await connect(
            lambda: InferenceClient([late, address]), Deadline.after(30), wait=True
        )
        assert [endpoint.healthy for endpoint in client.endpoints] == [False, True]
        await client.close()


async def test_a_server_that_comes_later_gets_work_only_if_its_models_are_the_same(
    tmp_path: Path,
) -> None:
    first, second = Triton(tmp_path / "first"), Triton(tmp_path / "second")
    threshold = second.configs["identity_encoder"].parameters["match_threshold"]
    right, threshold.string_value = threshold.string_value, "0.9"
    late = await free_address(second)
    face = np.zeros((1, 112, 112, 3), np.uint8)
    async with running(first) as address:
        client, models = await connect(
            lambda: InferenceClient([late, address], settings=QUICK), Deadline.after(30), wait=True
        )
        assert models.encoder.match_threshold == float(right)
        async with client, running(second, late):
            deadline = Deadline.after(20)
            while second.asked < 3 or first.served < 10:  # looked at more than once
                await client.infer("identity_encoder", {"face": face}, deadline=deadline)
            assert second.served == 0
            threshold.string_value = right
            while not second.served:
                await client.infer("identity_encoder", {"face": face}, deadline=deadline)


async def test_a_server_that_never_comes_ends_the_wait_at_its_deadline(tmp_path: Path) -> None:
    address = await free_address(Triton(tmp_path))
    deadline = Deadline.after(1.0)
    with pytest.raises(ModelUnavailableError):
        await connect(lambda: InferenceClient([address]), deadline, wait=True)
    assert deadline.remaining() < 0.5


async def test_models_that_the_embedded_server_does_not_have_are_not_waited_for(
    tmp_path: Path,
) -> None:
    triton = Triton(tmp_path, loaded=2)
    async with running(triton) as address:
        with pytest.raises(ModelUnavailableError, match="not ready"):
            await profile_of(address, wait=False)
    assert triton.asked == 1


async def test_a_gateway_that_waits_for_its_models_can_be_stopped(tmp_path: Path) -> None:
    address = await free_address(Triton(tmp_path))
    settings = Settings(triton_url=(address,), port=0, operations_port=0)
    stop, begun = asyncio.Event(), list[Gateway]()
    serving = asyncio.create_task(serve_until(stop, settings, begun.append))
    await asyncio.sleep(0.3)
    assert not serving.done()
    stop.set()
    await asyncio.wait_for(serving, 10)
    assert begun == []
