"""Denoise steps a second against batch size, SD-1.5-size UNet with random weights, on a GPU.

    PYTHONPATH=service .venv-export/bin/python -m loadtest.gpu_steps --serve

Columns for latents of 64 x 64 and 80 x 80, all in rows a second: plain PyTorch in float16 as a
captured CUDA graph; the same graph through Triton, three requests of a whole batch under way; the
same from twice as many callers as the batch has rows, one row a request, which Triton joins; how
many rows it joined; and the share of the card's own ceiling (a large float16 matrix product,
measured in the same run) that the best one reaches. `--serve` starts the server, `--triton` names
one that has the studio profile's `denoiser`. Without a GPU it says so and measures nothing;
`--device cpu --narrow` tries the script.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

BATCHES = (1, 2, 4, 8, 16)
_LATENTS = (64, 80)
_IN_FLIGHT = 3
_WARM_UP_S = 0.3
_CALL_S = 30.0
_NO_GPU = 3


@dataclass(frozen=True)
class Row:
    """One latent size and batch.

    Attributes:
        latent: side of the latent.
        batch: rows of a step.
        torch_steps: rows a second in PyTorch.
        triton_steps: rows a second through Triton in whole batches, None where it was not asked.
        callers_steps: rows a second through Triton of single rows.
        joined: rows of an average execution then.
        ceiling_share: arithmetic of the best one over the card's measured matrix product.
    """

    latent: int
    batch: int
    torch_steps: float
    triton_steps: float | None
    callers_steps: float | None
    joined: float | None
    ceiling_share: float


@dataclass(frozen=True)
class Options:
    """What is measured where.

    Attributes:
        triton: host:port of a Triton with a `denoiser`, or empty.
        serve: start a server with the same network.
        device, narrow, tuned: see `gpu.network.build`.
        seconds: length of each measurement.
        batches, latents: rows of the table.
    """

    triton: str = ""
    serve: bool = False
    device: str = "cuda"
    narrow: bool = False
    tuned: bool = False
    seconds: float = 1.5
    batches: tuple[int, ...] = BATCHES
    latents: tuple[int, ...] = _LATENTS


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
        options: device, sizes and length of each measurement.
    """

    def __init__(self, options: Options) -> None:
        import torch  # noqa: PLC0415 - only this measurement needs it

        from loadtest.gpu.network import build  # noqa: PLC0415
        from loadtest.gpu.steps import Steps  # noqa: PLC0415

        self._torch, self._device, self._seconds = torch, options.device, options.seconds
        self._network = build(options.device, narrow=options.narrow, tuned=options.tuned)
        self._steps = Steps(self._network, options.device)

    def wait(self) -> None:
        """Wait until the card is done."""
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def flops(self, latent: int) -> float:
        """Return the floating-point operations of one row of one step."""
        from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

        from loadtest.gpu.network import example  # noqa: PLC0415

        with FlopCounterMode(display=False) as counter, self._torch.inference_mode():
            self._network(**example(latent, 1, self._device))
        return float(counter.get_total_flops())

    def rate(self, latent: int, batch: int) -> float:
        """Return rows a second."""
        step = self._steps.step(latent, batch)
        return _rate(step.run, self.wait, batch, self._seconds)

    def ceiling(self) -> float:
        """Return operations a second of a large matrix product in the network's own type."""
        torch, side = self._torch, 8192 if self._device == "cuda" else 1024
        dtype = torch.float16 if self._device == "cuda" else torch.float32
        first, second = (
            torch.randn(side, side, device=self._device, dtype=dtype) for _ in range(2)
        )
        rate = _rate(lambda: torch.matmul(first, second), self.wait, 1, self._seconds)
        return rate * 2 * side**3


class Served:
    """A denoiser behind Triton.

    Args:
        url: host:port of the server.
        client: a client of it.
        seconds: length of each measurement.
    """

    def __init__(self, url: str, client: Any, seconds: float) -> None:
        self._url, self._client, self._seconds = url, client, seconds

    async def inputs(self, model: str, latent: int, rows: int) -> dict[str, Any]:
        """Return random inputs of a model as its own description says."""
        from headshot.triton.tensors import dtype_of  # noqa: PLC0415
        from tritonclient.grpc.aio import InferenceServerClient  # noqa: PLC0415

        async with InferenceServerClient(self._url) as server:
            described = await server.get_model_metadata(model, client_timeout=_CALL_S)
        random = np.random.default_rng(1)
        inputs = {}
        for port in described.inputs:
            fixed = [n if n > 0 else 1 for n in port.shape[1:]]
            if port.name == "sample":
                fixed[1:] = [latent, latent]
            inputs[port.name] = random.random((rows, *fixed)).astype(dtype_of(port.datatype))
        return inputs

    async def rate(self, model: str, latent: int, rows: int, callers: int) -> tuple[float, float]:
        """Return rows a second and rows of an average execution.

        Args:
            model: its name.
            latent: side of the latent.
            rows: of each request.
            callers: requests under way.

        Raises:
            HeadshotError: the server refuses, fails or does not answer within 30 seconds.
        """
        from headshot.deadline import Deadline  # noqa: PLC0415

        inputs, done = await self.inputs(model, latent, rows), 0

        async def keep(until: float) -> None:
            nonlocal done
            while time.perf_counter() < until:
                await self._client.infer(model, inputs, deadline=Deadline.after(_CALL_S))
                done += rows

        async def all_keep(until: float) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(keep(until))

        await all_keep(time.perf_counter() + _WARM_UP_S)
        earlier = await self._counts(model)
        done, begun = 0, time.perf_counter()
        await all_keep(begun + self._seconds)
        rate = done / (time.perf_counter() - begun)
        return rate, (await self._counts(model)).since(earlier).mean_batch

    async def _counts(self, model: str) -> Any:
        from headshot.triton.stats import ModelStatistics  # noqa: PLC0415

        every = await self._client.statistics()
        return next(iter(every.values()), {}).get(model, ModelStatistics())


@asynccontextmanager
async def _server(options: Options) -> AsyncIterator[Served | None]:
    """Give what is served; without a server that starts, say why and give None."""
    if not options.triton and not options.serve:
        yield None
        return
    async with AsyncExitStack() as stack:
        try:
            from headshot.triton.client import InferenceClient  # noqa: PLC0415

            from loadtest.gpu.repository import Wanted  # noqa: PLC0415
            from loadtest.gpu.serving import served  # noqa: PLC0415

            url = options.triton
            if options.serve:
                wanted = Wanted(
                    options.batches, options.latents, options.device, options.narrow, options.tuned
                )
                url = await stack.enter_async_context(served(wanted))
            client = await stack.enter_async_context(InferenceClient([url]))
        except Exception as error:  # whatever it is, PyTorch is measured
            print(f"no Triton, PyTorch only: {type(error).__name__}: {error}", flush=True)
            yield None
            return
        yield Served(url, client, options.seconds)


async def _through(
    server: Served, options: Options, latent: int, batch: int
) -> tuple[float | None, float | None, float | None]:
    """Return both rates and the rows joined; None where the server failed, which is told."""
    from loadtest.gpu.repository import model_name  # noqa: PLC0415

    model = model_name(batch) if options.serve else "denoiser"
    whole = None
    try:
        whole, _ = await server.rate(model, latent, batch, _IN_FLIGHT)
        return whole, *await server.rate(model, latent, 1, 2 * batch)
    except Exception as error:  # a group of errors where several callers failed
        first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        print(f"{model} at {latent}: {type(first).__name__}: {first}", flush=True)
    return whole, None, None


async def measure(options: Options, out: Path | None = None) -> list[Row]:
    """Measure and print the table.

    Args:
        options: what is measured.
        out: JSON of the figures, written again after each row.
    """
    begun = time.perf_counter()

    def told(what: str) -> None:
        print(f"[{time.perf_counter() - begun:6.1f} s] {what}", flush=True)

    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        # Both load at the same time; PyTorch works in threads, so that the server stays watched.
        building = asyncio.create_task(asyncio.to_thread(Plain, options))
        server = await stack.enter_async_context(_server(options))
        told("server is ready" if server else "no server")
        plain = await building
        told("network is built")
        card = plain._torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
        ceiling = await asyncio.to_thread(plain.ceiling)
        told(f"{card}; matrix product {ceiling / 1e12:.1f} TFLOP/s")
        print(
            f"{'latent':>6} {'batch':>5} {'torch/s':>8} {'triton/s':>8} {'callers/s':>9} "
            f"{'joined':>6} {'of ceiling':>10}"
        )
        for latent in options.latents:
            flops = await asyncio.to_thread(plain.flops, latent)
            for batch in options.batches:
                alone = await asyncio.to_thread(plain.rate, latent, batch)
                whole = callers = joined = None
                if server is not None:
                    whole, callers, joined = await _through(server, options, latent, batch)
                    if callers is None:
                        server = None  # one deadline is enough
                share = max(alone, whole or 0.0, callers or 0.0) * flops / ceiling
                rows.append(Row(latent, batch, alone, whole, callers, joined, share))
                print(
                    f"{latent:>6} {batch:>5} {alone:8.1f} {_told(whole):>8} {_told(callers):>9} "
                    f"{_told(joined):>6} {share:10.0%}",
                    flush=True,
                )
                if out is not None:
                    figures = {"card": card, "ceiling_flops": ceiling}
                    _write(out, figures | {"rows": [asdict(row) for row in rows]})
        told("measured")
    told("server stopped")
    return rows


def _told(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"


def _write(out: Path, figures: dict[str, object]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1))


def main(
    triton: Annotated[str, typer.Option(help="host:port of a Triton with the denoiser.")] = "",
    serve: Annotated[bool, typer.Option("--serve", help="Start a Triton with it.")] = False,
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the script.")] = "cuda",
    narrow: Annotated[bool, typer.Option("--narrow", help="Small networks.")] = False,
    tuned: Annotated[bool, typer.Option("--tuned", help="cuDNN tries its kernels.")] = False,
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 1.5,
    batches: Annotated[str, typer.Option(help="Rows of a step.")] = "1,2,4,8,16",
    latents: Annotated[str, typer.Option(help="Sides of the latent.")] = "64,80",
    out: Annotated[Path, typer.Option(help="JSON of the figures.")] = Path("out/gpu_steps.json"),
) -> None:
    """Measure and print the table."""
    import torch  # noqa: PLC0415

    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU can be had here: nothing was measured")
        raise SystemExit(_NO_GPU)
    sizes, sides = (tuple(map(int, text.split(","))) for text in (batches, latents))
    options = Options(triton, serve, device, narrow, tuned, seconds, sizes, sides)
    asyncio.run(measure(options, out))


if __name__ == "__main__":
    typer.run(main)
