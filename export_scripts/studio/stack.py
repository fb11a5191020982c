"""The studio stack: which networks fill which model, with random or with public weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from export_scripts.studio import style_table
from export_scripts.studio.networks import detectors, matting, projection, recognisers, upscalers
from export_scripts.studio.networks.autoencoder import LatentDecoder, LatentEncoder
from export_scripts.studio.networks.diffusion import (
    ControlledDenoiser,
    Denoiser,
    add_image_prompt,
)
from export_scripts.studio.networks.images import ImageInput
from export_scripts.studio.spec import Port, Precision, StudioModel, examples
from export_scripts.studio.wrap import Chain, Published, as_published, wrapper

CONTEXT = 768
TEXT_TOKENS = 77
CONTROLS = ("pose", "depth", "canny", "segmentation")
ALL = (Precision.FLOAT16, Precision.FLOAT32, Precision.BFLOAT16)
WRAPPED = (Precision.FLOAT16, Precision.FLOAT32)
NO_FLOAT16 = (Precision.BFLOAT16, Precision.FLOAT32)


@dataclass(frozen=True)
class Width:
    """Sizes of the networks: the public ones, or narrow ones of the same interface.

    Attributes:
        unet: channels of the UNet's four levels.
        unet_layers: residual blocks of each level.
        vae: channels of the autoencoder's four levels.
        text_layers: layers of the text encoder (its width is fixed by the contract).
        face_layers: units of the iResNet's four stages.
        face: channels of its first stage.
        clip: width, layers, heads and inner width of CLIP's image encoder.
        srvgg: channels and depth.
        rrdb: channels, blocks and growth.
    """

    unet: tuple[int, int, int, int] = (320, 640, 1280, 1280)
    unet_layers: int = 2
    vae: tuple[int, int, int, int] = (128, 256, 512, 512)
    text_layers: int = 12
    face_layers: tuple[int, int, int, int] = (3, 13, 30, 3)
    face: int = 64
    clip: tuple[int, int, int, int] = (1280, 32, 16, 5120)
    srvgg: tuple[int, int] = (64, 32)
    rrdb: tuple[int, int, int] = (64, 23, 32)


FULL = Width()
NARROW = Width(
    unet=(32, 64, 64, 64), unet_layers=1, vae=(32, 32, 32, 32), text_layers=1, face_layers=(1, 1, 1, 1), face=8,
    clip=(64, 3, 4, 128), srvgg=(16, 4), rrdb=(16, 1, 8),
)  # fmt: skip


def unet_of(width: Width, canvas: int) -> UNet2DConditionModel:
    """Build SD-1.5's UNet at a width."""
    return UNet2DConditionModel(
        sample_size=canvas // 8,
        block_out_channels=width.unet,
        layers_per_block=width.unet_layers,
        cross_attention_dim=CONTEXT,
        attention_head_dim=8,
    )


def control_of(width: Width) -> ControlNetModel:
    """Build a ControlNet that fits the UNet."""
    return ControlNetModel(
        block_out_channels=width.unet, layers_per_block=width.unet_layers,
        cross_attention_dim=CONTEXT, attention_head_dim=8,
    )  # fmt: skip


def vae_of(width: Width) -> AutoencoderKL:
    """Build SD-1.5's autoencoder at a width."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=width.vae,
        layers_per_block=2,
        latent_channels=4,
    )


def text_of(width: Width) -> CLIPTextModel:
    """Build the text encoder (CLIP ViT-L/14's) at a depth."""
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=CONTEXT,
            intermediate_size=4 * CONTEXT,
            num_attention_heads=12,
            num_hidden_layers=width.text_layers,
            max_position_embeddings=TEXT_TOKENS,
            hidden_act="quick_gelu",
            projection_dim=CONTEXT,
        )  # fmt: skip
    )


def vision_of(width: Width) -> CLIPVisionModel:
    """Build CLIP's image encoder (ViT-H/14) at a width."""
    hidden, layers, heads, inner = width.clip
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
            image_size=projection.FACE_SIDE,
            patch_size=14,
            hidden_act="gelu",
        )  # fmt: skip
    )


# --- ports -------------------------------------------------------------------------------------

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


# --- models ------------------------------------------------------------------------------------


def detector(published: Published, reference: nn.Module, kind: str, **extra: str) -> StudioModel:
    """Make the face detector around a YuNet or SCRFD graph."""
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
        max_batch=8,
        opt_batch=1,
        precisions=WRAPPED,
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
    published: Published, reference: nn.Module, recogniser: str, threshold: str, size: int
) -> StudioModel:
    """Make the identity encoder around a published graph (AuraFace, InsightFace, SFace)."""
    raw = recogniser.startswith("sface")
    before = ImageInput((0.0,) * 3 if raw else (127.5,) * 3, (1.0,) * 3 if raw else (127.5,) * 3)
    after = UnitVector()
    ports = (
        (Port("face", "UINT8", (112, 112, 3)),),
        (Port("embedding", "FP32", (size,)),),
    )
    return StudioModel(
        name="identity_encoder",
        network=Chain(before, reference, after),
        inputs=ports[0],
        outputs=ports[1],
        example=examples(ports[0]),
        parameters={
            "recogniser": recogniser, "template": "arcface-112",
            "match_threshold": threshold, "threshold_fmr": "0.001",
        },
        max_batch=16,
        opt_batch=4,
        precisions=WRAPPED,
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
        precisions=NO_FLOAT16,
    )  # fmt: skip
    decoder_model = StudioModel(
        name="latent_decoder", network=LatentDecoder(vae), inputs=(latent,), outputs=(image,),
        example=examples((latent,)), parameters=shared, max_batch=4, opt_batch=1,
        precisions=NO_FLOAT16,
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
        parameters={"identity_input": port.name, "tokens": str(tokens)}, max_batch=8, opt_batch=1, precisions=ALL,
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
        example=examples(ports[0]), parameters={"canvas": str(side), "matte": kind}, max_batch=4,
        opt_batch=1, precisions=WRAPPED, wrap=wrapper(published, ports, before, after),
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


# --- stacks ------------------------------------------------------------------------------------


def random_stack(width: Width = NARROW, canvas: int = 512, seed: int = 11) -> list[StudioModel]:
    """Build every model and variant with seeded random weights.

    Variants of one model follow each other; the first of each name is the one that is served.
    """
    torch.manual_seed(seed)
    faceid = projection.EmbeddingProjection()
    hidden = width.clip[0]
    resampler = projection.Resampler(
        features=hidden, width=128 if width is NARROW else CONTEXT,
        depth=1 if width is NARROW else 4, heads=2 if width is NARROW else 12,
    )  # fmt: skip
    unet, controlled = unet_of(width, canvas), unet_of(width, canvas)
    add_image_prompt(unet)
    add_image_prompt(controlled)
    prompts = style_table.read_prompts()
    table = torch.randn(len(prompts), TEXT_TOKENS, CONTEXT)
    yunet, scrfd = detectors.YuNetShaped(), detectors.ScrfdShaped()
    modnet = matting.MattingShaped(logits=False)
    birefnet = matting.MattingShaped(logits=True)
    face = recognisers.IResNet(width.face_layers, width.face)
    return [
        detector(as_published(yunet, (3, 640, 640), detectors.YUNET_HEADS), yunet, "yunet"),
        detector(
            as_published(scrfd, (3, 640, 640), tuple(f"head{i}" for i in range(9))), scrfd, "scrfd"
        ),
        encoder(face.eval(), "random-iresnet", "0.5"),
        published_encoder(
            as_published(face.eval(), (3, 112, 112), ("embedding",)), face, "random-published",
            "0.5", recognisers.EMBEDDING,
        ),
        denoiser(unet, canvas, tokens=16),
        denoiser(controlled, canvas, tokens=16, control=random_control(width), kind="pose"),
        *latent_models(vae_of(width), canvas),
        identity_projection(
            projection.FaceImageProjection(vision_of(width), resampler, canvas), 16, canvas
        ),
        identity_projection(faceid, 4, canvas),
        style_prompts(table, list(prompts)),
        matte(as_published(modnet, (3, 512, 512), ("output",)), modnet, "modnet", 512),
        matte(as_published(birefnet, (3, 1024, 1024), ("output",)), birefnet, "birefnet", 1024),
        upscaler(upscalers.Srvgg(*width.srvgg), "srvgg"),
        upscaler(upscalers.RrdbNet(*width.rrdb), "rrdbnet"),
    ]  # fmt: skip


def random_control(width: Width) -> ControlNetModel:
    """Build a ControlNet whose zero convolutions are not zero, so that control shows in tests."""
    control = control_of(width)
    for layer in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
        nn.init.normal_(layer.weight, std=0.05)
    nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.05)
    return control
