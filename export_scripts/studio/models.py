"""The models of the studio repository: ports, parameters and graphs around given networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from export_scripts.studio.networks import detectors, matting, projection, recognisers, upscalers
from export_scripts.studio.networks.autoencoder import LatentDecoder, LatentEncoder
from export_scripts.studio.networks.diffusion import ControlledDenoiser, Denoiser
from export_scripts.studio.networks.images import ImageInput
from export_scripts.studio.sizes import CONTEXT, TEXT_TOKENS
from export_scripts.studio.spec import Port, Precision, StudioModel, examples
from export_scripts.studio.wrap import Chain, Published, with_batch, wrapper

SFACE_EMBEDDING = 128
CONTROLS = ("pose", "depth", "canny", "segmentation")
ALL = (Precision.FLOAT16, Precision.FLOAT32, Precision.BFLOAT16)
# float16 is held, see autoencoder.py, but untried with the public weights.
BFLOAT16_FIRST = (Precision.BFLOAT16, Precision.FLOAT32, Precision.FLOAT16)

DETECTOR_PORTS = (
    (Port("image", "UINT8", (640, 640, 3)),),
    (
        Port("boxes", "FP32", (64, 4)),
        Port("scores", "FP32", (64,)),
        Port("landmarks", "FP32", (64, 5, 2)),
    ),
)


def denoiser_ports(canvas: int, tokens: int, *, control: bool) -> tuple[Port, ...]:
    """Inputs of the denoiser."""
    side = canvas // 8
    ports = (
        Port("sample", "FP16", (4, side, side)),
        Port("timestep", "FP32", ()),
        Port("encoder_hidden_states", "FP16", (TEXT_TOKENS, CONTEXT)),
        Port("ip_tokens", "FP16", (tokens, CONTEXT)),
        Port("ip_scale", "FP32", ()),
    )
    if not control:
        return ports
    return (
        *ports,
        Port("control", "FP16", (3, canvas, canvas)),
        Port("control_scale", "FP32", ()),
    )


def denoiser_parameters(canvas: int) -> dict[str, str]:
    """Tell the gateway how to sample (all values are strings in Triton)."""
    return {
        "canvas": str(canvas),
        "latent_codec": "vae",
        "latent_factor": "8",
        "latent_channels": "4",
        "prediction_type": "epsilon",
        "sampler": "lcm",
        "steps": "4",
        "noise_scale": "1.0",
        "beta_schedule": "scaled_linear",
        "beta_start": "0.00085",
        "beta_end": "0.012",
        "train_timesteps": "1000",
        "original_steps": "50",
        "guidance": "none",
        "default_strength": "0.5",
        "default_ip_scale": "0.7",
    }


def detector(published: Published, reference: nn.Module, kind: str, **extra: str) -> StudioModel:
    """Make the face detector around a YuNet or SCRFD graph."""
    published = with_batch(published, (3, 640, 640))
    before = (
        ImageInput((0.0,) * 3, (1.0,) * 3, bgr=True)
        if kind == "yunet"
        else ImageInput((127.5,) * 3, (128.0,) * 3)
    )
    after = detectors.YuNetDecoder() if kind == "yunet" else detectors.ScrfdDecoder(flat=True)
    return StudioModel(
        name="face_detector",
        network=Chain(before, reference, after),
        inputs=DETECTOR_PORTS[0],
        outputs=DETECTOR_PORTS[1],
        example=examples(DETECTOR_PORTS[0]),
        parameters={
            "canvas": "640", "detector": kind, "nms_iou": "0.4",
            "score_threshold": "0.6" if kind == "yunet" else "0.5",
        } | extra,
        max_batch=8 if published.batched else 1,
        opt_batch=1,
        precisions=ALL,
        wrap=wrapper(published, DETECTOR_PORTS, before, after),
        unordered=True,
    )  # fmt: skip


def encoder(trunk: nn.Module, recogniser: str, threshold: str, **options: object) -> StudioModel:
    """Make the identity encoder around a trunk that torch defines."""
    network = recognisers.FaceEncoder(trunk)
    inputs = (Port("face", "UINT8", (112, 112, 3)),)
    return StudioModel(
        name="identity_encoder",
        network=network,
        inputs=inputs,
        outputs=(Port("embedding", "FP32", (recognisers.EMBEDDING,)),),
        example=examples(inputs),
        parameters={
            "recogniser": recogniser, "template": "arcface-112",
            "match_threshold": threshold, "threshold_fmr": "0.001",
        },
        max_batch=16,
        opt_batch=4,
        precisions=ALL,
    )  # fmt: skip


def published_encoder(
    published: Published,
    reference: nn.Module,
    recogniser: str,
    threshold: str,
    size: int,
    name: str = "identity_encoder",
) -> StudioModel:
    """Make a recogniser around a published graph (AuraFace, InsightFace, SFace).

    `name` is `identity_encoder` for the one that decides, `verifier` for a second one beside it.
    """
    published = with_batch(published, (3, 112, 112))
    raw = recogniser.startswith("sface")
    before = ImageInput((0.0,) * 3 if raw else (127.5,) * 3, (1.0,) * 3 if raw else (127.5,) * 3)
    after = UnitVector()
    ports = (
        (Port("face", "UINT8", (112, 112, 3)),),
        (Port("embedding", "FP32", (size,)),),
    )
    return StudioModel(
        name=name,
        network=Chain(before, reference, after),
        inputs=ports[0],
        outputs=ports[1],
        example=examples(ports[0]),
        parameters={
            "recogniser": recogniser, "template": "arcface-112",
            "match_threshold": threshold, "threshold_fmr": "0.001",
        },
        max_batch=16 if published.batched else 1,
        opt_batch=4 if published.batched else 1,
        precisions=ALL,
        wrap=wrapper(published, ports, before, after),
    )  # fmt: skip


class UnitVector(nn.Module):
    """Raw embedding [B, D] to unit length, float32."""

    def forward(self, embedding: Tensor) -> Tensor:
        """Normalise."""
        return nn.functional.normalize(embedding.float(), dim=1)


def denoiser(
    unet: UNet2DConditionModel, canvas: int, tokens: int, control: ControlNetModel | None = None,
    kind: str = "",
) -> StudioModel:  # fmt: skip
    """Make the denoiser, its image-prompt attention already in the UNet."""
    network: nn.Module = Denoiser(unet)
    parameters = denoiser_parameters(canvas)
    if control is not None:
        network = ControlledDenoiser(unet, control)
        parameters |= {"control": kind, "default_control_scale": "0.8"}
    inputs = denoiser_ports(canvas, tokens, control=control is not None)
    return StudioModel(
        name="denoiser",
        network=network,
        inputs=inputs,
        outputs=(Port("prediction", "FP16", inputs[0].dims),),
        example=_denoiser_example(inputs),
        parameters=parameters,
        max_batch=8,
        opt_batch=4,
        precisions=ALL,
        queue_us=2000,
    )


def _denoiser_example(inputs: tuple[Port, ...]) -> Callable[[int], tuple[Tensor, ...]]:
    noise = examples(inputs)

    def make(batch: int) -> tuple[Tensor, ...]:
        tensors = dict(zip([port.name for port in inputs], noise(batch), strict=True))
        # One timestep for each row, as step-level batching sends them.
        tensors["timestep"] = torch.linspace(999.0, 259.0, batch)
        tensors["ip_scale"] = torch.linspace(0.7, 0.3, batch)
        if "control" in tensors:
            tensors["control"] = tensors["control"].sigmoid()
            tensors["control_scale"] = torch.linspace(0.8, 0.0, batch)
        return tuple(tensors.values())

    return make


def latent_models(vae: AutoencoderKL, canvas: int) -> tuple[StudioModel, StudioModel]:
    """Make the latent encoder and decoder."""
    image = Port("image", "UINT8", (canvas, canvas, 3))
    latent = Port("latent", "FP16", (4, canvas // 8, canvas // 8))
    shared = {"canvas": str(canvas), "latent_codec": "vae", "latent_factor": "8"}
    encoder_model = StudioModel(
        name="latent_encoder", network=LatentEncoder(vae), inputs=(image,), outputs=(latent,),
        example=examples((image,)), parameters=shared, max_batch=4, opt_batch=1,
        precisions=BFLOAT16_FIRST,
    )  # fmt: skip
    decoder_model = StudioModel(
        name="latent_decoder", network=LatentDecoder(vae), inputs=(latent,), outputs=(image,),
        example=examples((latent,)), parameters=shared, max_batch=4, opt_batch=1,
        precisions=BFLOAT16_FIRST,
    )  # fmt: skip
    return encoder_model, decoder_model


def identity_projection(
    network: nn.Module, tokens: int, canvas: int, embedding: int = 512
) -> StudioModel:
    """Make the identity projection; the input's name tells the gateway which kind it is."""
    if isinstance(network, projection.EmbeddingProjection):
        port = Port("identity", "FP32", (embedding,))
    else:
        port = Port("reference", "UINT8", (canvas, canvas, 3))
    return StudioModel(
        name="identity_projection", network=network, inputs=(port,),
        outputs=(Port("ip_tokens", "FP16", (tokens, CONTEXT)),), example=examples((port,)),
        parameters={"identity_input": port.name, "tokens": str(tokens)},
        max_batch=8, opt_batch=1, precisions=ALL,
    )  # fmt: skip


def style_prompts(table: Tensor, styles: list[str]) -> StudioModel:
    """Make the table of encoded style prompts; `styles` names its rows."""
    port = Port("style", "INT32", (1,))
    return StudioModel(
        name="style_prompts", network=projection.StylePrompts(table), inputs=(port,),
        outputs=(Port("encoder_hidden_states", "FP16", tuple(table.shape[1:])),),
        example=examples((port,)), parameters={"styles": ",".join(styles)},
        max_batch=32, opt_batch=1, precisions=(Precision.FLOAT32,), queue_us=0,
    )  # fmt: skip


def matte(published: Published, reference: nn.Module, kind: str, side: int) -> StudioModel:
    """Make the matting model around a MODNet or BiRefNet graph."""
    published = with_batch(published, (3, side, side))
    birefnet = kind.startswith("birefnet")
    before = (
        ImageInput(matting.IMAGENET_MEAN, matting.IMAGENET_STD)
        if birefnet
        else ImageInput((127.5,) * 3, (127.5,) * 3)
    )
    after = matting.Alpha(logits=birefnet)
    ports = (
        (Port("image", "UINT8", (side, side, 3)),),
        (Port("alpha", "UINT8", (side, side, 1)),),
    )
    return StudioModel(
        name="matting", network=Chain(before, reference, after), inputs=ports[0], outputs=ports[1],
        example=examples(ports[0]), parameters={"canvas": str(side), "matte": kind},
        max_batch=4 if published.batched else 1,
        opt_batch=1, precisions=ALL, wrap=wrapper(published, ports, before, after),
    )  # fmt: skip


def upscaler(network: upscalers.Srvgg | upscalers.RrdbNet, kind: str) -> StudioModel:
    """Make the upscaler; height and width vary with the request."""
    image = Port("image", "UINT8", (-1, -1, 3))
    return StudioModel(
        name="upscaler", network=upscalers.Upscaler(network), inputs=(image,),
        outputs=(Port("upscaled", "UINT8", (-1, -1, 3)),),
        example=examples((image,), {"image": (48, 40, 3)}),
        parameters={
            "scale": "4", "overlap": str(network.overlap), "upscaler": kind,
            "profile_min": "64", "profile_opt": "512", "profile_max": "768",
        },
        max_batch=4, opt_batch=1, precisions=ALL,
    )  # fmt: skip
