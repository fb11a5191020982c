"""Sizes of the studio networks: the public checkpoints' own, and narrow ones for tests."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from export_scripts.studio.networks.projection import FACE_SIDE

CONTEXT = 768
TEXT_TOKENS = 77


@dataclass(frozen=True)
class Width:
    """Sizes of the networks: the public ones, or narrow ones of the same interface.

    Attributes:
        unet: channels of the UNet's four levels.
        unet_layers: residual blocks of each level.
        unet_heads: attention heads (diffusers calls the argument attention_head_dim).
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
    unet_heads: int = 8
    vae: tuple[int, int, int, int] = (128, 256, 512, 512)
    text_layers: int = 12
    face_layers: tuple[int, int, int, int] = (3, 13, 30, 3)
    face: int = 64
    clip: tuple[int, int, int, int] = (1280, 32, 16, 5120)
    srvgg: tuple[int, int] = (64, 32)
    rrdb: tuple[int, int, int] = (64, 23, 32)


FULL = Width()
NARROW = Width(
    unet=(32, 64, 64, 64),
    unet_layers=1,
    unet_heads=2,
    vae=(32, 32, 32, 32),
    text_layers=1,
    face_layers=(1, 1, 1, 1),
    face=8,
    clip=(64, 3, 4, 128),
    srvgg=(16, 4),
    rrdb=(16, 1, 8),
)


def unet_of(width: Width, canvas: int) -> UNet2DConditionModel:
    """Build SD-1.5's UNet at a width."""
    return UNet2DConditionModel(
        sample_size=canvas // 8,
        block_out_channels=width.unet,
        layers_per_block=width.unet_layers,
        cross_attention_dim=CONTEXT,
        attention_head_dim=width.unet_heads,
    )


def control_of(width: Width) -> ControlNetModel:
    """Build a ControlNet that fits the UNet."""
    return ControlNetModel(
        block_out_channels=width.unet, layers_per_block=width.unet_layers,
        cross_attention_dim=CONTEXT, attention_head_dim=width.unet_heads,
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
        )
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
            image_size=FACE_SIDE,
            patch_size=14,
            hidden_act="gelu",
        )
    )
