"""A model that differs from the contract is refused with its name, field, expected and found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from headshot.errors import ModelContractError
from headshot.triton.contracts import check_models, fixed_contract, upscaled_contract
from headshot.triton.model_config import ModelDescription, describe
from headshot.triton.tensors import TensorSpec
from tritonclient.grpc import model_config_pb2

from tests.integration.triton.tiny_repository import MODELS, PARAMETERS, write_config


@pytest.fixture
def descriptions(tmp_path: Path) -> dict[str, ModelDescription]:
    """The five models, right in every field."""
    for model in MODELS:
        write_config(tmp_path / model, model, backend="openvino", parameters=PARAMETERS[model])
    return {
        model: describe(
            text_format.Parse(
                (tmp_path / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
            )
        )
        for model in MODELS
    }


def test_right_models_pass(descriptions: dict[str, ModelDescription]) -> None:
    models = check_models(descriptions)
    assert models.denoiser.noise_scale == 0.5
    assert models.encoder.recogniser == "tiny-random-1"


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("face_detector", "canvas", "320"),
        ("face_detector", "canvas", "large"),
        ("face_detector", "score_threshold", "1.5"),
        ("face_detector", "nms_iou", ""),
        ("identity_encoder", "recogniser", ""),
        ("identity_encoder", "template", "other"),
        ("identity_encoder", "match_threshold", "nan"),
        ("denoiser", "latent_channels", "64"),
        ("denoiser", "latent_factor", "7"),
        ("denoiser", "latent_codec", "vae"),
        ("denoiser", "prediction_type", "sample"),
        ("denoiser", "sampler", "lcm"),
        ("denoiser", "steps", "0"),
        ("denoiser", "profile", "studio"),
        ("matting", "canvas", "256"),
        ("upscaler", "scale", "0"),
        ("upscaler", "overlap", "-1"),
    ],
)
def test_a_wrong_parameter_is_named(
    descriptions: dict[str, ModelDescription], model: str, key: str, value: str
) -> None:
    good = descriptions[model]
    descriptions[model] = replace(good, parameters={**good.parameters, key: value})
    with pytest.raises(ModelContractError) as raised:
        check_models(descriptions)
    assert raised.value.metadata["model"]
    assert raised.value.metadata["field"]
    assert raised.value.metadata["model"] in raised.value.message


@pytest.mark.parametrize(
    ("model", "kind", "name"),
    [
        ("face_detector", "inputs", "image"),
        ("face_detector", "outputs", "landmarks"),
        ("identity_encoder", "outputs", "embedding"),
        ("denoiser", "inputs", "timestep"),
        ("denoiser", "outputs", "prediction"),
        ("matting", "outputs", "alpha"),
        ("upscaler", "inputs", "image"),
    ],
)
def test_a_missing_or_misshapen_tensor_is_named(
    descriptions: dict[str, ModelDescription], model: str, kind: str, name: str
) -> None:
    good = descriptions[model]
    tensors: dict[str, TensorSpec] = dict(getattr(good, kind))
    misshapen = {**tensors, name: TensorSpec(tensors[name].dtype, (*tensors[name].shape, 7))}
    without = {key: spec for key, spec in tensors.items() if key != name}
    for changed in (misshapen, without):
        fields = {"inputs": good.inputs, "outputs": good.outputs, kind: changed}
        descriptions[model] = replace(good, inputs=fields["inputs"], outputs=fields["outputs"])
        with pytest.raises(ModelContractError, match=model) as raised:
            check_models(descriptions)
        assert name in raised.value.metadata["field"]


def test_the_denoisers_identity_must_be_the_encoders(
    descriptions: dict[str, ModelDescription],
) -> None:
    good = descriptions["identity_encoder"]
    longer = {"embedding": TensorSpec(np.dtype(np.float32), (512,))}
    descriptions["identity_encoder"] = replace(good, outputs=longer)
    with pytest.raises(
        ModelContractError, match=r"denoiser: input identity should be FP32 \[512\]"
    ):
        check_models(descriptions)


def test_answers_have_the_rows_of_their_requests(
    descriptions: dict[str, ModelDescription],
) -> None:
    contract = fixed_contract(descriptions["matting"])
    specs = contract({"image": np.zeros((3, 512, 512, 3), np.uint8)})
    assert specs == {"alpha": TensorSpec(np.dtype(np.uint8), (3, 512, 512, 1))}


def test_an_upscaled_answer_has_the_scaled_sides_of_its_request(
    descriptions: dict[str, ModelDescription],
) -> None:
    contract = upscaled_contract(descriptions["upscaler"])
    specs = contract({"image": np.zeros((1, 10, 20, 3), np.uint8)})
    assert specs == {"upscaled": TensorSpec(np.dtype(np.uint8), (1, 40, 80, 3))}
