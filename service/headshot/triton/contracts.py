"""What the gateway needs to know of its models, read from Triton and checked once at start.

A model is described by its config.pbtxt: tensors by name, type and shape, and `parameters`. All
that the gateway relies on is checked here, so that a wrong model is a clear message and not a
wrong picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import numpy as np

from headshot.deadline import Deadline
from headshot.errors import ModelContractError
from headshot.triton.client import InferenceClient
from headshot.triton.companions import COMPANIONS, VERIFIER, check_companions
from headshot.triton.endpoints import Endpoint
from headshot.triton.failures import unavailable
from headshot.triton.model_config import ModelDescription, read_description, ready_models
from headshot.triton.tensors import Array, OutputContract, TensorSpec, batch_of

_SAMPLERS = {"flow": ("flow_euler",), "epsilon": ("lcm", "ddim", "euler")}
_FACE_SIDE = 112


@dataclass(frozen=True)
class ModelInfo:
    """What all models have.

    Attributes:
        name: Triton's name of the model.
        max_batch_size: most rows of one execution.
        parameters: all `parameters` of its config.pbtxt.
    """

    name: str
    max_batch_size: int
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class DetectorInfo(ModelInfo):
    """Face detector: canvas side in pixels; score and IoU thresholds in (0, 1); boxes returned."""

    canvas: int
    score_threshold: float
    nms_iou: float
    top_k: int


@dataclass(frozen=True)
class EncoderInfo(ModelInfo):
    """Identity encoder: recogniser id, length of the embedding, cosine threshold and its FMR."""

    recogniser: str
    dimension: int
    match_threshold: float
    fmr: float


@dataclass(frozen=True)
class DenoiserInfo(ModelInfo):
    """Denoiser: canvas side in pixels, latent codec, diffusion type, sampler and its defaults."""

    canvas: int
    latent_codec: str
    latent_factor: int
    latent_channels: int
    prediction_type: str
    sampler: str
    steps: int
    noise_scale: float
    default_strength: float
    inputs: frozenset[str]


@dataclass(frozen=True)
class MattingInfo(ModelInfo):
    """Matting: canvas side in pixels."""

    canvas: int


@dataclass(frozen=True)
class UpscalerInfo(ModelInfo):
    """Upscaler: integer scale and the margin in input pixels that tiles must share."""

    scale: int
    overlap: int


@dataclass(frozen=True)
class ModelSet:
    """All models of one profile, checked against each other.

    Attributes:
        profile: "compact" or "studio", the same for all models.
        optional: models beyond the five that the repository also serves, by name; the verifier
            is an EncoderInfo.
    """

    profile: str
    detector: DetectorInfo
    encoder: EncoderInfo
    denoiser: DenoiserInfo
    matting: MattingInfo
    upscaler: UpscalerInfo
    optional: Mapping[str, ModelInfo]

    def all(self) -> tuple[ModelInfo, ...]:
        """Return every model, the five first."""
        five = (self.detector, self.encoder, self.denoiser, self.matting, self.upscaler)
        return (*five, *self.optional.values())


async def load_model_set(client: InferenceClient, deadline: Deadline) -> ModelSet:
    """Read and check the models of every endpoint, and let the client check each answer.

    Servers that do not answer now are out of use, and checked before they get any work. The servers
    behind one name are one endpoint: they are taken to be alike and not compared with each other.

    Raises:
        ModelUnavailableError: no server answers, or one of the five models is not ready.
        ModelContractError: a model differs from the contract, or two servers differ; the message
            names the model, the field, what is expected and what was found.
    """
    readings = await asyncio.gather(
        *(_read(endpoint, deadline) for endpoint in client.endpoints), return_exceptions=True
    )
    sets: dict[str, ModelSet] = {}
    failures: list[BaseException] = []
    for endpoint, reading in zip(client.endpoints, readings, strict=True):
        if isinstance(reading, BaseException):
            failures.append(reading)
        else:
            sets[endpoint.url] = reading[0]
    # A wrong model is told before a server that is not there yet: waiting does not mend it.
    failures.sort(key=lambda failure: not isinstance(failure, ModelContractError))
    for failure in failures:
        if not sets or not isinstance(failure, grpc.aio.AioRpcError):
            if isinstance(failure, grpc.aio.AioRpcError):
                raise unavailable("the model set", failure.code().name) from failure
            raise failure
    chosen = next(iter(sets.values()))
    for url, other in sets.items():
        if other != chosen:
            raise ModelContractError(f"the models of {url} differ from those of the other servers")
    contracts = next(reading[1] for reading in readings if not isinstance(reading, BaseException))
    for model, contract in contracts.items():
        client.set_contract(model, contract)

    async def same(endpoint: Endpoint) -> bool:
        return (await _read(endpoint, Deadline.after(_RECHECK_S)))[0] == chosen

    client.verify_restored(same)
    for endpoint, reading in zip(client.endpoints, readings, strict=True):
        if isinstance(reading, BaseException):
            endpoint.eject("its models could not be read")  # until `same` says that they are these
    return chosen


_RECHECK_S = 5.0


async def _read(
    endpoint: Endpoint, deadline: Deadline
) -> tuple[ModelSet, dict[str, OutputContract]]:
    ready = await ready_models(endpoint, deadline)
    missing = [name for name in _CHECKS if name not in ready]
    if missing:
        raise unavailable(", ".join(missing), f"not ready on {endpoint.url}")
    names = [*_CHECKS, *(name for name in COMPANIONS if name in ready)]
    described = await asyncio.gather(
        *(read_description(endpoint, name, deadline) for name in names)
    )
    descriptions = dict(zip(names, described, strict=True))
    return check_models(descriptions), {
        name: upscaled_contract(description) if name == "upscaler" else fixed_contract(description)
        for name, description in descriptions.items()
    }


def check_models(descriptions: Mapping[str, ModelDescription]) -> ModelSet:
    """Check all models and their agreement with each other.

    Raises:
        ModelContractError: see `load_model_set`.
    """
    detector = _detector(descriptions["face_detector"])
    encoder = _encoder(descriptions["identity_encoder"])
    denoiser = _denoiser(descriptions["denoiser"], encoder.dimension)
    matting = _matting(descriptions["matting"])
    upscaler = _upscaler(descriptions["upscaler"])
    check_companions(descriptions, denoiser.canvas, encoder.dimension)
    profile = descriptions["denoiser"].text("profile")
    for description in descriptions.values():
        description.expect("profile", profile, description.text("profile"))
    optional = {
        name: ModelInfo(*descriptions[name].common()) for name in COMPANIONS if name in descriptions
    }
    if VERIFIER in descriptions:
        optional[VERIFIER] = _verifier(descriptions[VERIFIER], encoder)
    return ModelSet(profile, detector, encoder, denoiser, matting, upscaler, optional)


def _detector(model: ModelDescription) -> DetectorInfo:
    canvas = model.integer("canvas", 32, 4096)
    model.expect_input("image", ("UINT8",), (canvas, canvas, 3))
    top_k = model.output("scores").shape[0]
    model.expect_output("scores", ("FP32",), (top_k,))
    model.expect_output("boxes", ("FP32",), (top_k, 4))
    model.expect_output("landmarks", ("FP32",), (top_k, 5, 2))
    return DetectorInfo(
        *model.common(),
        canvas=canvas,
        score_threshold=model.number("score_threshold", 0.0, 1.0),
        nms_iou=model.number("nms_iou", 0.0, 1.0),
        top_k=top_k,
    )


def _encoder(model: ModelDescription) -> EncoderInfo:
    model.expect_input("face", ("UINT8",), (_FACE_SIDE, _FACE_SIDE, 3))
    model.expect("template", "arcface-112", model.text("template"))
    dimension = model.output("embedding").shape[0]
    model.expect_output("embedding", ("FP32",), (dimension,))
    return EncoderInfo(
        *model.common(),
        recogniser=model.text("recogniser"),
        dimension=dimension,
        match_threshold=model.number("match_threshold", -1.0, 1.0),
        fmr=model.number("threshold_fmr", 0.0, 1.0),
    )


def _verifier(model: ModelDescription, first: EncoderInfo) -> EncoderInfo:
    second = _encoder(model)
    # The same network again agrees with itself: it is no second opinion.
    model.expect(
        "parameter recogniser", f"another than {first.recogniser}", second.recogniser,
        holds=second.recogniser != first.recogniser,
    )  # fmt: skip
    return second


def _denoiser(model: ModelDescription, identity_dimension: int) -> DenoiserInfo:
    canvas = model.integer("canvas", 64, 4096)
    factor = model.integer("latent_factor", 1, 64)
    channels = model.integer("latent_channels", 1, 4096)
    side = canvas // factor
    model.expect("canvas", f"a multiple of {factor}", str(canvas), holds=canvas % factor == 0)
    codec = model.text("latent_codec")
    if codec == "pixel_unshuffle":
        model.expect("latent_channels", str(3 * factor**2), str(channels))
    floats = ("FP16", "FP32")
    model.expect_input("sample", floats, (channels, side, side))
    model.expect_input("timestep", ("FP32",), (1,))
    model.expect_output("prediction", floats, (channels, side, side))
    if "identity" in model.inputs:
        model.expect_input("identity", ("FP32",), (identity_dimension,))
    if "reference" in model.inputs:
        model.expect_input("reference", ("UINT8",), (canvas, canvas, 3))
    prediction = model.text("prediction_type")
    sampler = model.text("sampler")
    model.expect(
        "prediction_type", f"one of {sorted(_SAMPLERS)}", prediction, holds=prediction in _SAMPLERS
    )
    known = _SAMPLERS.get(prediction, ())
    model.expect("sampler", f"one of {sorted(known)}", sampler, holds=sampler in known)
    return DenoiserInfo(
        *model.common(),
        canvas=canvas,
        latent_codec=codec,
        latent_factor=factor,
        latent_channels=channels,
        prediction_type=prediction,
        sampler=sampler,
        steps=model.integer("steps", 1, 1000),
        noise_scale=model.number("noise_scale", 0.0, 100.0),
        default_strength=model.number("default_strength", 0.0, 1.0),
        inputs=frozenset(model.inputs),
    )


def _matting(model: ModelDescription) -> MattingInfo:
    canvas = model.integer("canvas", 32, 4096)
    model.expect_input("image", ("UINT8",), (canvas, canvas, 3))
    model.expect_output("alpha", ("UINT8",), (canvas, canvas, 1))
    return MattingInfo(*model.common(), canvas=canvas)


def _upscaler(model: ModelDescription) -> UpscalerInfo:
    model.expect_input("image", ("UINT8",), (-1, -1, 3))
    model.expect_output("upscaled", ("UINT8",), (-1, -1, 3))
    return UpscalerInfo(
        *model.common(),
        scale=model.integer("scale", 1, 8),
        overlap=model.integer("overlap", 0, 256),
    )


_CHECKS = ("face_detector", "identity_encoder", "denoiser", "matting", "upscaler")


def fixed_contract(model: ModelDescription) -> OutputContract:
    """Return the answers' contract of a model whose output shapes are in its configuration."""

    def contract(inputs: Mapping[str, Array]) -> Mapping[str, TensorSpec]:
        rows = batch_of(inputs)
        return {
            name: TensorSpec(spec.dtype, (rows, *spec.shape))
            for name, spec in model.outputs.items()
        }

    return contract


def upscaled_contract(model: ModelDescription) -> OutputContract:
    """Return the answers' contract of the upscaler: the input's sides times its scale."""
    scale = model.integer("scale", 1, 8)

    def contract(inputs: Mapping[str, Array]) -> Mapping[str, TensorSpec]:
        rows, height, width, channels = inputs["image"].shape
        shape = (rows, height * scale, width * scale, channels)
        return {"upscaled": TensorSpec(np.dtype(np.uint8), shape)}

    return contract
