"""Models beside the five are checked at start, not by the first call that needs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from headshot.errors import ModelContractError
from headshot.triton.contracts import EncoderInfo, check_models
from headshot.triton.model_config import ModelDescription, describe
from headshot.triton.tensors import TensorSpec
from tritonclient.grpc import model_config_pb2

from tests.integration.triton.tiny_repository import MODELS, PARAMETERS, write_config

SIDE, LATENT = 512, (4, 64, 64)
Descriptions = dict[str, ModelDescription]


def spec(dtype: type, *shape: int) -> TensorSpec:
    return TensorSpec(np.dtype(dtype), shape)


def described(name: str, inputs: dict, outputs: dict, **parameters: str) -> ModelDescription:
    return ModelDescription(name, 8, inputs, outputs, {"profile": "studio", **parameters})


@pytest.fixture
def studio(tmp_path: Path) -> Descriptions:
    """A studio-shaped set, right in every field, with a second recogniser."""
    found: Descriptions = {}
    for model in MODELS:
        write_config(tmp_path / model, model, backend="openvino", parameters=PARAMETERS[model])
        text = (tmp_path / model / "config.pbtxt").read_text()
        one = describe(text_format.Parse(text, model_config_pb2.ModelConfig()))
        found[model] = replace(one, parameters={**one.parameters, "profile": "studio"})
    latent, picture = spec(np.float16, *LATENT), spec(np.uint8, SIDE, SIDE, 3)
    tokens, text_tokens = spec(np.float16, 16, 768), spec(np.float16, 77, 768)
    found["denoiser"] = described(
        "denoiser",
        {
            "sample": latent, "timestep": spec(np.float32, 1), "encoder_hidden_states": text_tokens,
            "ip_tokens": tokens, "ip_scale": spec(np.float32, 1),
        },
        {"prediction": latent},
        canvas=str(SIDE), latent_factor="8", latent_channels="4", latent_codec="vae",
        prediction_type="epsilon", sampler="lcm", steps="4", noise_scale="1",
        default_strength="0.5",
    )  # fmt: skip
    found["latent_encoder"] = described("latent_encoder", {"image": picture}, {"latent": latent})
    found["latent_decoder"] = described("latent_decoder", {"latent": latent}, {"image": picture})
    found["identity_projection"] = described(
        "identity_projection", {"reference": picture}, {"ip_tokens": tokens},
        identity_input="reference",
    )  # fmt: skip
    found["style_prompts"] = described(
        "style_prompts", {"style": spec(np.int32, 1)}, {"encoder_hidden_states": text_tokens},
        styles="corporate",
    )  # fmt: skip
    first = found["identity_encoder"]
    found["verifier"] = replace(
        first,
        name="verifier",
        outputs={"embedding": spec(np.float32, 128)},
        parameters={**first.parameters, "recogniser": "second-1"},
    )
    return found


def refused(models: Descriptions) -> ModelContractError:
    with pytest.raises(ModelContractError) as raised:
        check_models(models)
    assert raised.value.metadata["model"] in raised.value.message
    return raised.value


def with_parameter(model: ModelDescription, key: str, value: str) -> ModelDescription:
    return replace(model, parameters={**model.parameters, key: value})


def test_a_studio_shaped_set_with_a_second_recogniser_passes(studio: Descriptions) -> None:
    models = check_models(studio)
    second = models.optional["verifier"]
    assert isinstance(second, EncoderInfo)
    assert (second.recogniser, second.dimension) == ("second-1", 128)


def test_the_verifier_is_optional(studio: Descriptions) -> None:
    del studio["verifier"]
    assert "verifier" not in check_models(studio).optional


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recogniser", ""),
        ("recogniser", PARAMETERS["identity_encoder"]["recogniser"]),
        ("template", "eyes-only"),
        ("match_threshold", "high"),
        ("match_threshold", ""),
        ("threshold_fmr", "2"),
        ("profile", "compact"),
    ],
)
def test_a_wrong_verifier_is_named(studio: Descriptions, key: str, value: str) -> None:
    studio["verifier"] = with_parameter(studio["verifier"], key, value)
    error = refused(studio)
    assert error.metadata["model"] == "verifier"
    assert key in error.metadata["field"]


@pytest.mark.parametrize(
    ("model", "kind", "tensor", "wrong"),
    [
        ("verifier", "inputs", "face", spec(np.uint8, 160, 160, 3)),
        ("verifier", "outputs", "embedding", spec(np.float16, 128)),
        ("latent_encoder", "inputs", "image", spec(np.uint8, 256, 256, 3)),
        ("latent_encoder", "outputs", "latent", spec(np.float16, 4, 32, 32)),
        ("latent_decoder", "inputs", "latent", spec(np.float32, *LATENT)),
        ("latent_decoder", "outputs", "image", spec(np.float16, SIDE, SIDE, 3)),
        ("identity_projection", "inputs", "reference", spec(np.uint8, 224, 224, 3)),
        ("identity_projection", "outputs", "ip_tokens", spec(np.float16, 4, 768)),
        ("style_prompts", "inputs", "style", spec(np.int64, 1)),
        ("style_prompts", "outputs", "encoder_hidden_states", spec(np.float16, 77, 1024)),
    ],
)
def test_a_misshapen_tensor_of_a_companion_is_named(
    studio: Descriptions, model: str, kind: str, tensor: str, wrong: TensorSpec
) -> None:
    changed = {**getattr(studio[model], kind), tensor: wrong}
    sides = {"inputs": studio[model].inputs, "outputs": studio[model].outputs, kind: changed}
    studio[model] = replace(studio[model], inputs=sides["inputs"], outputs=sides["outputs"])
    error = refused(studio)
    assert error.metadata["model"] == model
    assert tensor in error.metadata["field"]


@pytest.mark.parametrize(
    "missing", ["latent_encoder", "latent_decoder", "identity_projection", "style_prompts"]
)
def test_a_companion_that_the_denoiser_needs_must_be_served(
    studio: Descriptions, missing: str
) -> None:
    del studio[missing]
    assert refused(studio).metadata["model"] == missing


def test_a_projection_of_the_embedding_takes_the_encoders_own(studio: Descriptions) -> None:
    good = with_parameter(studio["identity_projection"], "identity_input", "identity")
    length = studio["identity_encoder"].outputs["embedding"].shape[0]
    studio["identity_projection"] = replace(good, inputs={"identity": spec(np.float32, length)})
    check_models(studio)
    studio["identity_projection"] = replace(good, inputs={"identity": spec(np.float32, 7)})
    assert "identity" in refused(studio).metadata["field"]


@pytest.mark.parametrize("kind", ["pose", "depth", "segmentation", ""])
def test_a_control_that_the_gateway_cannot_draw_is_refused_at_start(
    studio: Descriptions, kind: str
) -> None:
    good = studio["denoiser"]
    control = {"control": spec(np.float16, 3, SIDE, SIDE), "control_scale": spec(np.float32, 1)}
    controlled = replace(good, inputs={**good.inputs, **control})
    studio["denoiser"] = with_parameter(controlled, "control", "canny")
    check_models(studio)
    studio["denoiser"] = with_parameter(controlled, "control", kind)
    assert "control" in refused(studio).metadata["field"]


def test_a_default_scale_that_is_no_number_is_refused_at_start(studio: Descriptions) -> None:
    studio["denoiser"] = with_parameter(studio["denoiser"], "default_ip_scale", "strong")
    assert "default_ip_scale" in refused(studio).metadata["field"]


def test_an_input_that_nothing_fills_is_refused_at_start(studio: Descriptions) -> None:
    good = studio["denoiser"]
    studio["denoiser"] = replace(good, inputs={**good.inputs, "mask": spec(np.float16, 1, 64, 64)})
    assert "mask" in refused(studio).message


def test_a_canvas_that_the_latent_grid_does_not_cover_is_refused_at_start(
    studio: Descriptions,
) -> None:
    grid = spec(np.float16, 4, 73, 73)  # 73 times 7 are 511 of 512 pixels
    good = with_parameter(studio["denoiser"], "latent_factor", "7")
    inputs = {**good.inputs, "sample": grid}
    studio["denoiser"] = replace(good, inputs=inputs, outputs={"prediction": grid})
    assert refused(studio).metadata["field"] == "canvas"
