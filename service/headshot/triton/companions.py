"""Contracts of the models beside the five: codec, identity projection, style prompts, verifier.

They are optional as files, but not to a denoiser that asks for what only they can give. All is
checked at start, so that the first call does not find out.
"""

from __future__ import annotations

from collections.abc import Mapping

from headshot.errors import ModelContractError
from headshot.triton.model_config import ModelDescription

CODEC_MODELS = ("latent_encoder", "latent_decoder")
PROJECTION = "identity_projection"
PROMPTS = "style_prompts"
VERIFIER = "verifier"
COMPANIONS = (*CODEC_MODELS, PROJECTION, PROMPTS, VERIFIER)
# What the pipeline can fill, and the one control map that it can make without a network.
_KNOWN_INPUTS = frozenset(
    {
        "sample", "timestep", "reference", "identity", "encoder_hidden_states", "ip_tokens",
        "ip_scale", "control", "control_scale",
    }
)  # fmt: skip
_CONTROLS = ("canny",)
_FLOATS = ("FP16", "FP32")


def check_companions(
    models: Mapping[str, ModelDescription], canvas: int, identity_dimension: int
) -> None:
    """Check the denoiser's further inputs and the models that fill them.

    Args:
        models: all served models that the gateway knows, the five among them.
        canvas: side of the denoiser's pictures in pixels.
        identity_dimension: length of the identity encoder's embedding.

    Raises:
        ModelContractError: an input that nothing fills, a companion that is missing, or one whose
            tensors or parameters do not fit; the message names model and field.
    """
    denoiser = models["denoiser"]
    for name in sorted(denoiser.inputs):
        denoiser.expect(
            f"input {name}", f"one of {sorted(_KNOWN_INPUTS)}", name, holds=name in _KNOWN_INPUTS
        )
    for name in ("ip_scale", "control_scale"):
        if name in denoiser.inputs:
            denoiser.expect_input(name, ("FP32",), (1,))
            if f"default_{name}" in denoiser.parameters:
                denoiser.number(f"default_{name}", 0.0, 10.0)
    if "control" in denoiser.inputs:
        denoiser.expect_input("control", _FLOATS, (3, canvas, canvas))
        kind = denoiser.text("control")
        denoiser.expect("control", f"one of {list(_CONTROLS)}", kind, holds=kind in _CONTROLS)
    if denoiser.text("latent_codec") != "pixel_unshuffle":
        _check_codec(models, canvas)
    if "ip_tokens" in denoiser.inputs:
        _check_projection(_needed(models, PROJECTION, "ip_tokens"), denoiser, canvas,
                          identity_dimension)  # fmt: skip
    if "encoder_hidden_states" in denoiser.inputs:
        _check_prompts(_needed(models, PROMPTS, "encoder_hidden_states"), denoiser)


def _needed(models: Mapping[str, ModelDescription], name: str, field: str) -> ModelDescription:
    if name not in models:
        raise ModelContractError(
            f"{name}: not served, but the denoiser's {field} needs it",
            metadata={"model": name, "field": field},
        )
    return models[name]


def _check_codec(models: Mapping[str, ModelDescription], canvas: int) -> None:
    latent = models["denoiser"].inputs["sample"].shape
    encoder, decoder = (_needed(models, name, "latent_codec") for name in CODEC_MODELS)
    encoder.expect_input("image", ("UINT8",), (canvas, canvas, 3))
    encoder.expect_output("latent", _FLOATS, latent)
    # The pipeline sends float16: less on the wire, and more than the codec resolves.
    decoder.expect_input("latent", ("FP16",), latent)
    decoder.expect_output("image", ("UINT8",), (canvas, canvas, 3))


def _check_projection(
    model: ModelDescription, denoiser: ModelDescription, canvas: int, identity_dimension: int
) -> None:
    wanted = model.text("identity_input")
    model.expect(
        "parameter identity_input", "reference or identity", wanted,
        holds=wanted in ("reference", "identity"),
    )  # fmt: skip
    if wanted == "reference":
        model.expect_input("reference", ("UINT8",), (canvas, canvas, 3))
    else:
        model.expect_input("identity", ("FP32",), (identity_dimension,))
    model.expect_output("ip_tokens", _FLOATS, denoiser.inputs["ip_tokens"].shape)


def _check_prompts(model: ModelDescription, denoiser: ModelDescription) -> None:
    model.text("styles")
    model.expect_input("style", ("INT32",), (1,))
    model.expect_output(
        "encoder_hidden_states", _FLOATS, denoiser.inputs["encoder_hidden_states"].shape
    )
