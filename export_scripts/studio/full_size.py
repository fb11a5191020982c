"""One denoiser step at full SD-1.5 size on the CPU in bfloat16, with its time and memory.

    python -m export_scripts.studio.full_size --threads 2 --steps 4

Random weights: what is measured is that a network of this size runs here, how long a step takes
and how much memory it needs. The latent decoder follows once.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch

from export_scripts.studio.networks.autoencoder import LatentDecoder
from export_scripts.studio.networks.diffusion import Denoiser, add_image_prompt
from export_scripts.studio.sizes import CONTEXT, FULL, TEXT_TOKENS, unet_of, vae_of
from export_scripts.studio.spec import seeded


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--canvas", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(11)
    started = time.perf_counter()
    # Made in bfloat16 from the start: a float32 copy would double the memory.
    torch.set_default_dtype(torch.bfloat16)
    unet = unet_of(FULL, options.canvas)
    add_image_prompt(unet)
    network = Denoiser(unet).eval()
    decoder = LatentDecoder(vae_of(FULL)).eval()
    torch.set_default_dtype(torch.float32)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(f"built {millions:.0f} M parameters in {time.perf_counter() - started:.1f} s")
    side, generator = options.canvas // 8, seeded()
    sample = torch.randn(1, 4, side, side, generator=generator).half()
    text = torch.randn(1, TEXT_TOKENS, CONTEXT, generator=generator).half()
    tokens = torch.randn(1, 16, CONTEXT, generator=generator).half()
    with torch.inference_mode():
        for step in torch.linspace(999, 259, options.steps):
            started = time.perf_counter()
            prediction = network(sample, step[None], text, tokens, torch.ones(1))
            seconds = time.perf_counter() - started
            finite = bool(torch.isfinite(prediction).all())
            print(f"step at {step:.0f}: {seconds:.1f} s, finite {finite}, peak {_peak():.1f} GiB")
        started = time.perf_counter()
        image = decoder(sample)
        print(
            f"latent decoder: {time.perf_counter() - started:.1f} s, {list(image.shape)}, "
            f"peak {_peak():.1f} GiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
