"""One picture through the diffusion part at full SD-1.5 size on the CPU in bfloat16.

    python -m export_scripts.studio.full_size --threads 2 --steps 4

Latent encoder, the denoising steps under the service's own sampler, latent decoder, each with its
time and the memory so far. Random weights and a random picture: what is measured is that networks
of this size run here, how long they take and how much memory they need.

Where the processor has no bfloat16 units, PyTorch's own bfloat16 convolutions are a hundred times
slower than float32. There the operands of each product stay bfloat16 and are multiplied and summed
in float32, which is what bfloat16 units do, too.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from headshot.pipeline.sampler import Lcm, noise
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from export_scripts.studio.networks.autoencoder import LatentDecoder, LatentEncoder
from export_scripts.studio.networks.diffusion import Denoiser, add_image_prompt
from export_scripts.studio.sizes import (
    CONTEXT,
    FULL,
    TEXT_TOKENS,
    Width,
    unet_of,
    vae_of,
)
from export_scripts.studio.spec import seeded
from export_scripts.training.precision import native_bfloat16

_PRODUCTS = (F.conv2d, F.linear, F.scaled_dot_product_attention)
_IMAGE_TOKENS = 16
_SEED = 11


class FloatProducts(TorchFunctionMode):
    """Compute products of bfloat16 tensors in float32 and round the result to bfloat16."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function."""
        kwargs = kwargs or {}
        if func not in _PRODUCTS or args[0].dtype is not torch.bfloat16:
            return func(*args, **kwargs)
        wide = [item.float() if isinstance(item, Tensor) else item for item in args]
        named = {
            key: item.float() if isinstance(item, Tensor) else item for key, item in kwargs.items()
        }
        return func(*wide, **named).to(torch.bfloat16)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Print what a stage took: seconds on the clock and of the processor, peak memory so far."""
    started, used = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name:<28} {wall:6.1f} s, {processor:6.1f} s of processor time, peak {peak:.1f} GiB",
        flush=True,
    )


class Networks:
    """Encoder, denoiser and decoder in bfloat16, with random weights.

    Args:
        width: their sizes.
        canvas: side of the picture in pixels, a multiple of 64.
    """

    def __init__(self, width: Width, canvas: int) -> None:
        # Made in bfloat16 from the start: a float32 copy would double the memory.
        torch.set_default_dtype(torch.bfloat16)
        try:
            unet = unet_of(width, canvas)
            add_image_prompt(unet)
            self.denoiser = Denoiser(unet).eval()
            vae = vae_of(width)
            self.encoder = LatentEncoder(vae).eval()
            self.decoder = LatentDecoder(vae).eval()
        finally:
            torch.set_default_dtype(torch.float32)


def run(networks: Networks, canvas: int, steps: int, strength: float) -> np.ndarray[Any, Any]:
    """Send one random picture through; prints each stage.

    Args:
        networks: what `canvas` was given to, too.
        canvas: side of the picture in pixels.
        steps: denoising steps.
        strength: how far the result may move from the picture, above 0 to 1.

    Returns:
        uint8 [canvas, canvas, 3].

    Raises:
        ValueError: a prediction that is not finite.
    """
    generator = seeded()
    image = torch.randint(0, 256, (1, canvas, canvas, 3), dtype=torch.uint8, generator=generator)
    text = torch.randn(1, TEXT_TOKENS, CONTEXT, generator=generator).half()
    tokens = torch.randn(1, _IMAGE_TOKENS, CONTEXT, generator=generator).half()
    sampler = Lcm.schedule(steps, strength)
    with stage("latent encoder"):
        reference = networks.encoder(image).float().numpy()
    sample = sampler.start(reference, noise(_SEED, 0, 0, reference.shape))
    for index, timestep in enumerate(sampler.timesteps):
        with stage(f"step {index + 1} at timestep {timestep:.0f}"):
            prediction = networks.denoiser(
                torch.from_numpy(sample).half(), torch.tensor([timestep]), text, tokens,
                torch.ones(1),
            ).float().numpy()  # fmt: skip
        if not np.isfinite(prediction).all():
            raise ValueError(f"the prediction at {timestep:.0f} is not finite")
        fresh = noise(_SEED, 0, index + 1, sample.shape) if sampler.needs_noise(index) else None
        sample = sampler.step(sample, prediction, index, fresh)
    with stage("latent decoder"):
        picture = networks.decoder(torch.from_numpy(sample).half())
    return picture[0].numpy()


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--canvas", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(_SEED)
    with stage("all networks built"):
        networks = Networks(FULL, options.canvas)
    parts = (networks.denoiser, networks.encoder, networks.decoder)
    millions = sum(weight.numel() for part in parts for weight in part.parameters()) / 1e6
    units = native_bfloat16()
    how = "by the processor's units" if units else "in float32 (no bfloat16 units here)"
    print(f"{millions:.0f} M parameters; bfloat16 products are computed {how}; "
          f"{options.threads} threads", flush=True)  # fmt: skip
    with (
        stage("picture to picture"),
        torch.inference_mode(),
        contextlib.nullcontext() if units else FloatProducts(),
    ):
        picture = run(networks, options.canvas, options.steps, options.strength)
    print(f"picture {list(picture.shape)} {picture.dtype}, levels {picture.min()} to "
          f"{picture.max()}, mean {picture.mean():.0f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
