"""SD-1.5 denoiser: UNet with decoupled image-prompt attention, optionally with a ControlNet.

Rombach et al., CVPR 2022 (latent diffusion); Ye et al., "IP-Adapter", 2023 (decoupled cross
attention); Zhang et al., ICCV 2023 (ControlNet). The UNet itself is diffusers' UNet2DCondition.
"""

from __future__ import annotations

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from export_scripts.studio.networks.images import dtype_of


def _attend(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    heads = attention.heads

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(split(query), split(key), split(value))
    return mixed.transpose(1, 2).flatten(2)


class SelfAttention:
    """Plain attention; takes and ignores the image prompt that every block is handed."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_tokens: Tensor | None = None,
        ip_scale: Tensor | None = None,
    ) -> Tensor:
        """Attend over the picture's own positions, [B, N, C]."""
        key, value = attn.to_k(hidden_states), attn.to_v(hidden_states)
        return attn.to_out[0](_attend(attn, attn.to_q(hidden_states), key, value))


class ImagePromptAttention(nn.Module):
    """Cross attention to the text plus, through keys and values of its own, to the image tokens."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(context, width, bias=False)
        self.to_v_ip = nn.Linear(context, width, bias=False)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_tokens: Tensor | None = None,
        ip_scale: Tensor | None = None,
    ) -> Tensor:
        """Attend to [B, 77, C] and [B, T, C]; `ip_scale` weighs the second, one for each row.

        Raises:
            ValueError: text, image tokens or scale are missing.
        """
        if encoder_hidden_states is None or ip_tokens is None or ip_scale is None:
            raise ValueError("text, image tokens and their scale are all needed")
        query = attn.to_q(hidden_states)
        text = _attend(
            attn, query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        )
        image = _attend(attn, query, self.to_k_ip(ip_tokens), self.to_v_ip(ip_tokens))
        return attn.to_out[0](text + ip_scale.view(-1, 1, 1) * image)


def add_image_prompt(unet: UNet2DConditionModel) -> list[ImagePromptAttention | None]:
    """Give every cross attention of a UNet its image-prompt keys and values.

    Returns:
        One entry for each attention in diffusers' own order (down, up, mid), None for self
        attention: the order that IP-Adapter checkpoints number their weights by.
    """
    processors: dict[str, object] = {}
    order: list[ImagePromptAttention | None] = []
    for name in unet.attn_processors:
        attention = unet.get_submodule(name.removesuffix(".processor"))
        if name.endswith("attn1.processor"):
            processors[name] = SelfAttention()
            order.append(None)
        else:
            extra = ImagePromptAttention(attention.to_q.in_features, attention.to_k.in_features)
            processors[name] = extra
            order.append(extra)
    unet.set_attn_processor(processors)
    return order


class Denoiser(nn.Module):
    """One denoising step: noise prediction, everything with one row for each candidate.

    Inputs: sample float16 [B, 4, h, w], timestep float32 [B] in 0..999, encoder_hidden_states
    float16 [B, 77, 768], ip_tokens float16 [B, T, 768], ip_scale float32 [B]. Output: prediction
    float16 [B, 4, h, w] (epsilon).
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        ip_tokens: Tensor,
        ip_scale: Tensor,
    ) -> Tensor:
        """Predict the noise."""
        dtype = dtype_of(self)
        prediction = self.unet(
            sample.to(dtype),
            timestep,
            encoder_hidden_states.to(dtype),
            cross_attention_kwargs={
                "ip_tokens": ip_tokens.to(dtype),
                "ip_scale": ip_scale.to(dtype),
            },
            return_dict=False,
        )[0]
        return prediction.to(torch.float16)


class ControlledDenoiser(nn.Module):
    """The same step with one ControlNet in the graph (pose, depth, canny or segmentation).

    Two more inputs: control float16 [B, 3, 8h, 8w] in 0..1 and control_scale float32 [B].
    """

    def __init__(self, unet: UNet2DConditionModel, control: ControlNetModel) -> None:
        super().__init__()
        self.unet = unet
        self.control = control

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        ip_tokens: Tensor,
        ip_scale: Tensor,
        control: Tensor,
        control_scale: Tensor,
    ) -> Tensor:
        """Predict the noise under control."""
        dtype = dtype_of(self)
        latent, text = sample.to(dtype), encoder_hidden_states.to(dtype)
        down, middle = self.control(
            latent, timestep, text, controlnet_cond=control.to(dtype), return_dict=False
        )
        strength = control_scale.to(dtype).view(-1, 1, 1, 1)
        prediction = self.unet(
            latent,
            timestep,
            text,
            cross_attention_kwargs={
                "ip_tokens": ip_tokens.to(dtype),
                "ip_scale": ip_scale.to(dtype),
            },
            down_block_additional_residuals=[residual * strength for residual in down],
            mid_block_additional_residual=middle * strength,
            return_dict=False,
        )[0]
        return prediction.to(torch.float16)
