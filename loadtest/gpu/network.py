"""The measured network, the same wherever it runs: an SD-1.5-size UNet with random weights."""

from __future__ import annotations

import torch
from torch import Tensor

from export_scripts.studio.networks.diffusion import Denoiser, add_image_prompt
from export_scripts.studio.sizes import CONTEXT, FULL, NARROW, TEXT_TOKENS, unet_of

IMAGE_TOKENS = 16
_CHANNELS = 4
_SEED = 1


def build(device: str, *, narrow: bool = False, tuned: bool = False) -> Denoiser:
    """Return the network for inference, its weights drawn from a fixed seed.

    Args:
        device: cuda (float16) or cpu (float32).
        narrow: the small sizes of the tests instead of the checkpoint's.
        tuned: let cuDNN try its kernels for each new shape, which takes seconds a shape.

    Returns:
        The network with its image-prompt attention, in channels_last.
    """
    torch.backends.cudnn.benchmark = tuned
    torch.manual_seed(_SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16 if device == "cuda" else torch.float32)
    try:
        with torch.device(device):
            unet = unet_of(NARROW if narrow else FULL, 512)
            add_image_prompt(unet)
            network = Denoiser(unet)
    finally:
        torch.set_default_dtype(before)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def example(latent: int, rows: int, device: str) -> dict[str, Tensor]:
    """Return random inputs by name in the network's order.

    Args:
        latent: side of the latent, a multiple of 8.
        rows: length of every input's first axis.
        device: where they lie.

    Returns:
        sample float16 [rows, 4, latent, latent], timestep float32 [rows], encoder_hidden_states
        float16 [rows, 77, 768], ip_tokens float16 [rows, 16, 768], ip_scale float32 [rows].
    """
    return {
        "sample": torch.randn(rows, _CHANNELS, latent, latent, device=device).half(),
        "timestep": torch.full((rows,), 500.0, device=device),
        "encoder_hidden_states": torch.randn(rows, TEXT_TOKENS, CONTEXT, device=device).half(),
        "ip_tokens": torch.randn(rows, IMAGE_TOKENS, CONTEXT, device=device).half(),
        "ip_scale": torch.ones(rows, device=device),
    }
