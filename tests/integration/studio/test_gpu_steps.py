"""The denoiser that is measured on a GPU, narrow and on a CPU, through the real Triton."""

from __future__ import annotations

import asyncio

import pytest

torch = pytest.importorskip("torch", reason="the export environment has torch")
pytest.importorskip("diffusers", reason="the export environment has diffusers")

from headshot.deadline import Deadline  # noqa: E402
from headshot.triton.client import InferenceClient  # noqa: E402

from loadtest.gpu.network import build, example  # noqa: E402
from loadtest.gpu.repository import Wanted, model_name  # noqa: E402
from loadtest.gpu.serving import served  # noqa: E402
from loadtest.gpu.steps import Steps  # noqa: E402
from loadtest.gpu_steps import Served  # noqa: E402

WANTED = Wanted(batches=(4,), latents=(16, 24), device="cpu", narrow=True)
MODEL = model_name(4)


async def _predictions(client: InferenceClient, latent: int, rows: int) -> list[float]:
    """Ask for rows one by one at the same time and together; return both distances from torch."""
    inputs = example(latent, rows, "cpu")
    network = build("cpu", narrow=True)
    with torch.inference_mode():
        expected = network(**inputs).float()
    arrays = {name: tensor.reshape(rows, *tensor.shape[1:] or (1,)).numpy()
              for name, tensor in inputs.items()}  # fmt: skip
    singles = [
        {name: array[row : row + 1].copy() for name, array in arrays.items()} for row in range(rows)
    ]
    asked = [client.infer(MODEL, one, deadline=Deadline.after(60)) for one in [arrays, *singles]]
    together, *apart = [answer.outputs["prediction"] for answer in await asyncio.gather(*asked)]
    found = [torch.tensor(together), torch.cat([torch.tensor(row) for row in apart])]
    return [float((one.float() - expected).abs().max() / expected.abs().max()) for one in found]


def test_rows_through_triton_equal_pytorch_and_are_joined_up_to_the_batch() -> None:
    async def run() -> tuple[list[float], float, float]:
        async with served(WANTED) as url, InferenceClient([url]) as client:
            distances = [
                distance
                for latent, rows in ((16, 4), (24, 4), (16, 3), (16, 1))
                for distance in await _predictions(client, latent, rows)
            ]
            rate, joined = await Served(url, client, 0.5).rate(MODEL, 16, 1, 8)
            return distances, rate, joined

    distances, rate, joined = asyncio.run(run())
    assert max(distances) < 2e-3  # a float16 answer
    assert rate > 0
    assert 1 < joined <= 4


def test_a_step_reads_what_lies_in_its_inputs_when_it_runs() -> None:
    network = build("cpu", narrow=True)
    step = Steps(network, "cpu").step(16, 2)
    others = example(16, 2, "cpu")
    for name, tensor in others.items():
        step.inputs[name].copy_(tensor)
    step.run()
    with torch.inference_mode():
        assert torch.equal(step.output, network(**others))
