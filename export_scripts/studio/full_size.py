"""One denoiser step at full SD-1.5 size on the CPU in bfloat16, with its time and memory.

    python -m export_scripts.studio.full_size --threads 2 --steps 4

Random weights: what is measured is that a network of this size runs here, how long a step takes
and how much memory it needs. The latent decoder follows once.

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
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from export_scripts.studio.networks.autoencoder import LatentDecoder
from export_scripts.studio.networks.diffusion import Denoiser, add_image_prompt
from export_scripts.studio.sizes import CONTEXT, FULL, TEXT_TOKENS, unet_of, vae_of
from export_scripts.studio.spec import seeded
from export_scripts.training.precision import native_bfloat16

_PRODUCTS = (F.conv2d, F.linear, F.scaled_dot_product_attention)


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


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _took(started: float, used: float) -> str:
    wall, processor = time.perf_counter() - started, time.process_time() - used
    return f"{wall:.1f} s ({processor:.1f} s of processor time), peak {_peak():.1f} GiB"


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
    units = native_bfloat16()
    how = "by the processor's units" if units else "in float32 (no bfloat16 units here)"
    print(f"bfloat16 products are computed {how}; {options.threads} threads", flush=True)
    with torch.inference_mode(), contextlib.nullcontext() if units else FloatProducts():
        for step in torch.linspace(999, 259, options.steps):
            started, used = time.perf_counter(), time.process_time()
            prediction = network(sample, step[None], text, tokens, torch.ones(1))
            finite = bool(torch.isfinite(prediction).all())
            print(f"step at {step:.0f}: {_took(started, used)}, finite {finite}", flush=True)
        started, used = time.perf_counter(), time.process_time()
        image = decoder(sample)
        print(f"latent decoder: {_took(started, used)}, {list(image.shape)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
