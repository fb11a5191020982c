"""SD-1.5's autoencoder as two models: image to latent, latent to image."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from export_scripts.studio.networks.images import ImageInput, dtype_of, to_levels

SCALING = 0.18215
"""Latents are scaled to about unit variance (Rombach et al. 2022; SD-1.5's model card)."""


class LatentEncoder(nn.Module):
    """uint8 RGB [B, 8h, 8w, 3] to the scaled mean latent, float16 [B, 4, h, w]."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.input = ImageInput((127.5,) * 3, (127.5,) * 3)
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv

    def forward(self, image: Tensor) -> Tensor:
        """Encode to the mean of the posterior: no noise of its own."""
        moments = self.quant_conv(self.encoder(self.input(image).to(dtype_of(self.encoder))))
        mean, _ = moments.chunk(2, dim=1)
        return (mean * SCALING).to(torch.float16)


class LatentDecoder(nn.Module):
    """Scaled latent, float16 [B, 4, h, w], to uint8 RGB [B, 8h, 8w, 3]."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder

    def forward(self, latent: Tensor) -> Tensor:
        """Decode; never in float16, in which this decoder overflows."""
        z = latent.to(dtype_of(self)) / SCALING
        return to_levels(self.decoder(self.post_quant_conv(z)).float() / 2 + 0.5)
