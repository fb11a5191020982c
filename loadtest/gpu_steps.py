"""Denoise steps a second against batch size, SD-1.5-size UNet with random weights, on a GPU.

    PYTHONPATH=service .venv-export/bin/python -m loadtest.gpu_steps [--triton HOST:PORT]

Three columns for latents of 64 x 64 and 80 x 80: plain PyTorch in float16 as a captured CUDA graph;
the same through Triton, where one serves the studio profile's `denoiser`; and the share of the
card's own ceiling (a large float16 matrix product, measured in the same run) that the better one
reaches. Without a GPU it says so and measures nothing; `--device cpu --narrow` tries the script.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

BATCHES = (1, 2, 4, 8, 16)
_LATENTS = (64, 80)
_IN_FLIGHT = 2
_NO_GPU = 3


@dataclass(frozen=True)
class Row:
    """One latent size and batch.

    Attributes:
        latent: side of the latent.
        batch: rows of a step.
        torch_steps: rows a second in PyTorch.
        triton_steps: rows a second through Triton, None where none was given or it refused.
        ceiling_share: arithmetic of the better one over the card's measured matrix product.
    """

    latent: int
    batch: int
    torch_steps: float
    triton_steps: float | None
    ceiling_share: float


def _rate(run: Callable[[], object], wait: Callable[[], None], rows: int, seconds: float) -> float:
    """Return rows a second of a step that runs for a few seconds."""
    for _ in range(3):
        run()
    wait()
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        run()
        count += 1
        wait()
    return count * rows / (time.perf_counter() - begun)


class Plain:
    """The UNet in PyTorch.

    Args:
        device: cuda or cpu; a graph is captured on cuda.
        narrow: the small sizes of the tests instead of the checkpoint's.
        seconds: length of each measurement.
    """

    def __init__(self, device: str, *, narrow: bool, seconds: float) -> None:
        import torch  # noqa: PLC0415 - only this measurement needs it

        from export_scripts.studio.networks.diffusion import (  # noqa: PLC0415
            Denoiser,
            add_image_prompt,
        )
        from export_scripts.studio.sizes import FULL, NARROW, unet_of  # noqa: PLC0415

        self._torch, self._device, self._seconds = torch, device, seconds
        self._dtype = torch.float16 if device == "cuda" else torch.float32
        torch.set_default_dtype(self._dtype)
        with torch.device(device):
            unet = unet_of(NARROW if narrow else FULL, 512)
            add_image_prompt(unet)
            self._network = Denoiser(unet).eval()
        torch.set_default_dtype(torch.float32)

    def wait(self) -> None:
        """Wait until the card is done."""
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def _example(self, latent: int, batch: int) -> tuple[Any, ...]:
        torch = self._torch
        return (
            torch.randn(batch, 4, latent, latent, device=self._device).half(),
            torch.full((batch,), 500.0, device=self._device),
            torch.randn(batch, 77, 768, device=self._device).half(),
            torch.randn(batch, 16, 768, device=self._device).half(),
            torch.ones(batch, device=self._device),
        )

    def flops(self, latent: int) -> float:
        """Return the floating-point operations of one row of one step."""
        from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

        with FlopCounterMode(display=False) as counter, self._torch.inference_mode():
            self._network(*self._example(latent, 1))
        return float(counter.get_total_flops())

    def rate(self, latent: int, batch: int) -> float:
        """Return rows a second."""
        torch, example = self._torch, self._example(latent, batch)
        with torch.inference_mode():
            if self._device != "cuda":
                return _rate(lambda: self._network(*example), self.wait, batch, self._seconds)
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._network(*example)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._network(*example)
            return _rate(graph.replay, self.wait, batch, self._seconds)

    def ceiling(self) -> float:
        """Return operations a second of a large matrix product in the network's own type."""
        torch, side = self._torch, 8192 if self._device == "cuda" else 1024
        first, second = (
            torch.randn(side, side, device=self._device, dtype=self._dtype) for _ in range(2)
        )
        rate = _rate(lambda: torch.matmul(first, second), self.wait, 1, self._seconds)
        return rate * 2 * side**3


async def through_triton(url: str, latent: int, batch: int, seconds: float) -> float | None:
    """Return rows a second of the served denoiser, several batches in flight; None if refused."""
    from headshot.deadline import Deadline  # noqa: PLC0415
    from headshot.errors import HeadshotError  # noqa: PLC0415
    from headshot.triton.client import InferenceClient  # noqa: PLC0415
    from headshot.triton.tensors import dtype_of  # noqa: PLC0415
    from tritonclient.grpc.aio import InferenceServerClient  # noqa: PLC0415

    described = await InferenceServerClient(url).get_model_metadata("denoiser")
    random = np.random.default_rng(1)
    inputs = {}
    for port in described.inputs:
        sides = [latent if port.name == "sample" and k > 1 else n for k, n in enumerate(port.shape)]
        shape = (batch, *(n if n > 0 else 1 for n in sides[1:]))
        inputs[port.name] = random.random(shape).astype(dtype_of(port.datatype))
    done, begun = 0, 0.0
    async with InferenceClient([url]) as client:

        async def keep(until: float) -> None:
            nonlocal done
            while time.perf_counter() < until:
                await client.infer("denoiser", inputs, deadline=Deadline.after(60))
                done += batch

        try:
            await keep(time.perf_counter() + 0.5)
            done, begun = 0, time.perf_counter()
            await asyncio.gather(*(keep(begun + seconds) for _ in range(_IN_FLIGHT)))
        except HeadshotError:
            return None
    return done / (time.perf_counter() - begun)


def main(
    triton: Annotated[str, typer.Option(help="host:port of a Triton with the denoiser.")] = "",
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the script.")] = "cuda",
    narrow: Annotated[bool, typer.Option("--narrow", help="Small networks.")] = False,
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 3.0,
    out: Annotated[Path, typer.Option(help="JSON of the figures.")] = Path("out/gpu_steps.json"),
) -> None:
    """Measure and print the table."""
    import torch  # noqa: PLC0415

    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU can be had here: nothing was measured")
        raise SystemExit(_NO_GPU)
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    plain = Plain(device, narrow=narrow, seconds=seconds)
    ceiling = plain.ceiling()
    print(f"{card}; matrix product {ceiling / 1e12:.1f} TFLOP/s")
    print(f"{'latent':>6} {'batch':>5} {'torch/s':>8} {'triton/s':>8} {'of ceiling':>10}")
    rows = []
    for latent in _LATENTS:
        flops = plain.flops(latent)
        for batch in BATCHES:
            alone = plain.rate(latent, batch)
            served = None
            if triton:
                served = asyncio.run(through_triton(triton, latent, batch, seconds))
            share = max(alone, served or 0.0) * flops / ceiling
            rows.append(Row(latent, batch, alone, served, share))
            told = "-" if served is None else f"{served:.1f}"
            print(f"{latent:>6} {batch:>5} {alone:8.1f} {told:>8} {share:10.0%}", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = {"card": card, "ceiling_flops": ceiling, "rows": [asdict(row) for row in rows]}
    out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)
