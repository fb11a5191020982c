"""What comes out of the embedded server is what the runtimes themselves compute."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnxruntime as ort
import openvino as ov
import pytest
from headshot.deadline import Deadline
from headshot.errors import ModelContractError, ModelUnavailableError
from headshot.triton.client import InferenceClient
from headshot.triton.contracts import load_model_set
from headshot.triton.server import EmbeddedTriton

from tests.integration.triton.conftest import denoiser_inputs, image
from tests.integration.triton.tiny_repository import MODELS


def _directly(path: Path, backend: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if backend == "onnxruntime":
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled(inputs)
    return {output.any_name: np.array(result[output]) for output in compiled.outputs}


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("denoiser", "openvino"),
        ("denoiser_ort", "onnxruntime"),
        ("matting", "openvino"),
        ("matting_ort", "onnxruntime"),
    ],
)
async def test_a_random_tensor_through_triton_equals_the_runtime_called_directly(
    tiny_client: InferenceClient, tiny_repository: Path, model: str, backend: str
) -> None:
    inputs = denoiser_inputs(1) if "denoiser" in model else {"image": image(1)}
    answer = await tiny_client.infer(model, inputs, deadline=Deadline.after(30))
    if "timestep" in inputs:
        inputs["timestep"] = inputs["timestep"].reshape(-1)
    expected = _directly(tiny_repository / model / "1" / "model.onnx", backend, inputs)
    for name, array in answer.outputs.items():
        assert array.astype(np.float64).std() > 0
        if array.dtype == np.uint8:
            assert np.abs(array.astype(int) - expected[name].astype(int)).max() <= 1
        else:
            np.testing.assert_allclose(
                array.astype(np.float32), expected[name].astype(np.float32), rtol=2e-3, atol=2e-3
            )


@pytest.mark.parametrize("model", ["denoiser", "denoiser_ort"])
async def test_concurrent_steps_are_merged_and_each_equals_its_run_alone(
    tiny_client: InferenceClient, model: str
) -> None:
    requests = [denoiser_inputs(seed, timestep=seed / 8) for seed in range(8)]
    alone = [
        await tiny_client.infer(model, inputs, deadline=Deadline.after(30)) for inputs in requests
    ]
    together = await asyncio.gather(
        *(tiny_client.infer(model, inputs, deadline=Deadline.after(30)) for inputs in requests)
    )
    executions = sum(1 / answer.timings.batch_size for answer in together)
    assert executions < len(requests)
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.outputs["prediction"], many.outputs["prediction"])


async def test_timings_are_exact_and_add_up(tiny_client: InferenceClient) -> None:
    answer = await tiny_client.infer("matting", {"image": image(2)}, deadline=Deadline.after(30))
    timings = answer.timings
    assert timings.exact
    assert timings.batch_size == 1
    assert timings.compute_s > 0
    assert timings.queue_s >= 0
    assert timings.wire_s > 0
    assert timings.queue_s + timings.compute_s + timings.wire_s == pytest.approx(timings.total_s)


async def test_images_of_free_size_are_enlarged_four_times(tiny_client: InferenceClient) -> None:
    small = image(3, side=48)[:, :32]
    answer = await tiny_client.infer("upscaler", {"image": small}, deadline=Deadline.after(30))
    expected = small.repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_array_equal(answer.outputs["upscaled"], expected)


async def test_the_model_set_is_read_from_the_server(tiny_client: InferenceClient) -> None:
    models = await load_model_set(tiny_client, Deadline.after(10))
    assert models.profile == "compact"
    assert models.detector.top_k == 64
    assert models.encoder.dimension == 128
    assert models.denoiser.inputs == {"sample", "timestep", "identity", "reference"}
    assert models.denoiser.steps == 4
    assert models.matting.canvas == 512
    assert models.upscaler.scale == 4
    assert tuple(model.name for model in models.all()) == MODELS


async def test_an_unknown_model_is_unavailable(tiny_client: InferenceClient) -> None:
    with pytest.raises(ModelUnavailableError):
        await tiny_client.infer("nobody", {"image": image(4)}, deadline=Deadline.after(5))


async def test_a_request_of_a_wrong_shape_is_a_contract_error(tiny_client: InferenceClient) -> None:
    with pytest.raises(ModelContractError):
        await tiny_client.infer("matting", {"image": image(5, side=64)}, deadline=Deadline.after(5))


async def test_a_server_without_facts_is_measured_by_its_statistics(
    tiny_triton: EmbeddedTriton,
) -> None:
    async with InferenceClient([tiny_triton.grpc_url]) as client, asyncio.timeout(20):
        while True:
            answer = await client.infer("matting", {"image": image(6)}, deadline=Deadline.after(30))
            assert not answer.timings.exact
            if answer.timings.compute_s > 0:
                break
    assert answer.timings.batch_size >= 1
