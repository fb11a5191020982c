"""SD-1.5's autoencoder as two models: image to latent, latent to image.

In plain float16 its residual stream overflows. Every reader of that stream is a group norm or adds
to it, so the whole stream can be held at a fraction of its size without any change of the result:
what is written to it is scaled, and the norms, which undo any scale, get their epsilon scaled
alike. The fraction is a power of two: in float32 and bfloat16 nothing is rounded by it.
"""

from __future__ import annotations

import copy

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from export_scripts.studio.networks.images import ImageInput, dtype_of, to_levels

SCALING = 0.18215
"""Latents are scaled to about unit variance (Rombach et al. 2022; SD-1.5's model card)."""
RESIDUAL = 1 / 16
"""The residual stream is held at this part of its size: float16 then reaches to a million."""


def hold_residuals(part: nn.Module, scale: float) -> nn.Module:
    """Copy an encoder or decoder of diffusers with its residual stream at a part of its size.

    Args:
        part: `encoder` or `decoder` of an AutoencoderKL; left as it is.
        scale: a power of two.

    Returns:
        A network of the same results.
    """
    held = copy.deepcopy(part)
    _scale(held.conv_in, scale)
    _follow(held.conv_norm_out, scale)
    for module in held.modules():
        if isinstance(module, ResnetBlock2D):
            _follow(module.norm1, scale)
            # Between its two norms there is no sum: held small for its own range.
            _scale(module.conv1, scale)
            _follow(module.norm2, scale)
            _scale(module.conv2, scale)
            if module.conv_shortcut is not None:
                _scale_bias(module.conv_shortcut, scale)
        elif isinstance(module, Attention):
            _follow(module.group_norm, scale)
            _scale(module.to_out[0], scale)
        elif isinstance(module, Upsample2D | Downsample2D):
            _scale_bias(module.conv, scale)
    return held


def _scale(layer: nn.Module, scale: float) -> None:
    layer.weight.data.mul_(scale)
    _scale_bias(layer, scale)


def _scale_bias(layer: nn.Module, scale: float) -> None:
    if layer.bias is not None:
        layer.bias.data.mul_(scale)


def _follow(norm: nn.Module, scale: float) -> None:
    norm.eps *= scale**2


class LatentEncoder(nn.Module):
    """uint8 RGB [B, 8h, 8w, 3] to the scaled mean latent, float16 [B, 4, h, w]."""

    def __init__(self, vae: AutoencoderKL, residual: float = RESIDUAL) -> None:
        super().__init__()
        self.input = ImageInput((127.5,) * 3, (127.5,) * 3)
        self.encoder = hold_residuals(vae.encoder, residual)
        self.quant_conv = vae.quant_conv

    def forward(self, image: Tensor) -> Tensor:
        """Encode to the mean of the posterior: no noise of its own."""
        moments = self.quant_conv(self.encoder(self.input(image).to(dtype_of(self.encoder))))
        mean, _ = moments.chunk(2, dim=1)
        return (mean * SCALING).to(torch.float16)


class LatentDecoder(nn.Module):
    """Scaled latent, float16 [B, 4, h, w], to uint8 RGB [B, 8h, 8w, 3]."""

    def __init__(self, vae: AutoencoderKL, residual: float = RESIDUAL) -> None:
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = hold_residuals(vae.decoder, residual)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode."""
        z = latent.to(dtype_of(self)) / SCALING
        return to_levels(self.decoder(self.post_quant_conv(z)).float() / 2 + 0.5)
