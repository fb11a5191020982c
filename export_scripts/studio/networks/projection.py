"""Identity projections: what turns a face or an embedding into the image tokens of the denoiser.

Keys follow the IP-Adapter checkpoints (`image_proj.*`; Ye et al. 2023). Both variants fill the
same slot, `ip_tokens` [B, T, 768].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

from export_scripts.studio.networks.images import ImageInput, dtype_of

CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321375, 70.32316305)
FACE_SIDE = 224
FACE_WINDOW = (0.22, 0.10, 0.56)
"""Left, top and side of the window that holds the face of a framed photo, parts of its side."""


class PerceiverAttention(nn.Module):
    """Learned queries attend to the image features and to themselves (Flamingo's resampler)."""

    def __init__(self, width: int, head: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, head * heads, bias=False)
        self.to_kv = nn.Linear(width, 2 * head * heads, bias=False)
        self.to_out = nn.Linear(head * heads, width, bias=False)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """[B, N, C] and [B, T, C] to [B, T, C]."""
        features, latents = self.norm1(features), self.norm2(latents)

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.to_kv(torch.cat([features, latents], dim=1)).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(split(self.to_q(latents)), split(key), split(value))
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """CLIP's penultimate tokens to T image tokens (IP-Adapter-plus).

    Args:
        features: width of the CLIP tokens (1280 for ViT-H).
        width: inner width (768).
        output: width of the denoiser's context (768).
        tokens: T (16).
        depth: layers (4).
        head: width of a head (64).
        heads: heads (12).
    """

    def __init__(
        self,
        features: int = 1280,
        width: int = 768,
        output: int = 768,
        tokens: int = 16,
        depth: int = 4,
        head: int = 64,
        heads: int = 12,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, width) / width**0.5)
        self.proj_in = nn.Linear(features, width)
        self.proj_out = nn.Linear(width, output)
        self.norm_out = nn.LayerNorm(output)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(width, head, heads),
                    nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, 4 * width, bias=False),
                        nn.GELU(),
                        nn.Linear(4 * width, width, bias=False),
                    ),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, N, C] to [B, T, output]."""
        latents = self.latents.expand(features.shape[0], -1, -1)
        features = self.proj_in(features)
        for attention, forward in self.layers:
            latents = attention(features, latents) + latents
            latents = forward(latents) + latents
        return self.norm_out(self.proj_out(latents))


class FaceImageProjection(nn.Module):
    """Framed reference photo, uint8 RGB [B, S, S, 3], to ip_tokens float16 [B, T, 768] (plus-face).

    The adapter wants a face crop. The gateway frames every reference the same way (eyes in the
    upper third, head in the middle), so that a fixed window holds the face and the crop can be a
    part of the graph.
    """

    def __init__(self, clip: CLIPVisionModel, resampler: Resampler, canvas: int) -> None:
        super().__init__()
        self.canvas = canvas
        self.input = ImageInput(CLIP_MEAN, CLIP_STD)
        self.clip = clip
        self.resampler = resampler

    def forward(self, reference: Tensor) -> Tensor:
        """Project; the penultimate layer, without the final norm."""
        left, top, side = (round(part * self.canvas) for part in FACE_WINDOW)
        window = self.input(reference)[:, :, top : top + side, left : left + side]
        face = F.interpolate(window, (FACE_SIDE, FACE_SIDE), mode="bilinear", align_corners=False)
        states = self.clip(face.to(dtype_of(self.clip)), output_hidden_states=True).hidden_states
        return self.resampler(states[-2]).to(torch.float16)


class EmbeddingProjection(nn.Module):
    """Recogniser embedding float32 [B, D], unit length, to ip_tokens float16 [B, T, 768] (FaceID).

    Args:
        embedding: D (512).
        output: width of the denoiser's context (768).
        tokens: T (4).
    """

    def __init__(self, embedding: int = 512, output: int = 768, tokens: int = 4) -> None:
        super().__init__()
        self.output = output
        self.proj = nn.Sequential(
            nn.Linear(embedding, 2 * embedding),
            nn.GELU(),
            nn.Linear(2 * embedding, tokens * output),
        )
        self.norm = nn.LayerNorm(output)

    def forward(self, identity: Tensor) -> Tensor:
        """Project."""
        x = self.proj(identity.to(self.norm.weight.dtype))
        return self.norm(x.unflatten(-1, (-1, self.output))).to(torch.float16)


class StylePrompts(nn.Module):
    """Style index int32 [B, 1] to encoder_hidden_states float16 [B, 77, 768]: a table.

    Args:
        table: text-encoder outputs, float16 [styles, 77, 768].
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table.to(torch.float16), requires_grad=False)

    def forward(self, style: Tensor) -> Tensor:
        """Look up."""
        return (
            F.embedding(style[:, 0].long(), self.table.flatten(1))
            .unflatten(-1, self.table.shape[1:])
            .to(torch.float16)
        )
