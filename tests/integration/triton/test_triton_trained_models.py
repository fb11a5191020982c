"""The trained models on the embedded server: rows do not depend on what runs beside them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.triton.client import InferenceClient
from headshot.triton.contracts import load_model_set
from headshot.triton.model_config import read_description

from tests.conftest import MODELS

_FREE_SIDE = 96


async def _inputs(client: InferenceClient, model: str, seed: int) -> dict[str, np.ndarray]:
    """One row of random inputs: bytes, or numbers in [0, 1)."""
    description = await read_description(client.endpoints[0], model, Deadline.after(10))
    random = np.random.default_rng(seed)
    inputs = {}
    for name, spec in description.inputs.items():
        shape = [1, *(_FREE_SIDE if side < 0 else side for side in spec.shape)]
        scale = 255 if spec.dtype.kind in "ui" else 1
        inputs[name] = (random.random(shape) * scale).astype(spec.dtype)
    return inputs


async def test_the_trained_models_fit_the_gateway(triton_client: InferenceClient) -> None:
    models = await load_model_set(triton_client, Deadline.after(10))
    assert tuple(model.name for model in models.all()) == MODELS
    assert models.profile == "compact"


@pytest.mark.parametrize("model", MODELS)
async def test_a_row_gives_the_same_bytes_alone_and_among_others(
    triton_client: InferenceClient, model: str
) -> None:
    rows = [await _inputs(triton_client, model, seed) for seed in range(4)]
    deadline = Deadline.after(120)
    alone = [await triton_client.infer(model, row, deadline=deadline) for row in rows]
    together = await asyncio.gather(
        *(triton_client.infer(model, row, deadline=deadline) for row in rows * 2)
    )
    assert max(answer.timings.batch_size for answer in together) > 1
    for one, *others in zip(alone, together[:4], together[4:], strict=True):
        for name, array in one.outputs.items():
            for other in others:
                np.testing.assert_array_equal(array, other.outputs[name])
