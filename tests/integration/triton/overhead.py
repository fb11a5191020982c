"""What an inference through Triton costs beyond the model.

    python -m tests.integration.triton.overhead

Sends one request at a time of each tensor size and prints, in milliseconds, the median of the whole
call, of the compute that the backend reports, and of the rest, with and without shared memory.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from headshot.deadline import Deadline
from headshot.triton.client import InferenceClient
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig

from tests.conftest import ROOT
from tests.integration.triton.conftest import denoiser_inputs, image
from tests.integration.triton.tiny_repository import build_repository


def _cases() -> dict[str, tuple[str, Mapping[str, np.ndarray]]]:
    face = np.zeros((1, 112, 112, 3), np.uint8)
    return {
        "identity_encoder 38 kB in, 0.5 kB out": ("identity_encoder", {"face": face}),
        "matting 0.8 MB in, 0.26 MB out": ("matting", {"image": image(1)}),
        "face_detector 1.2 MB in, 4 kB out": ("face_detector", {"image": image(2, 640)}),
        "denoiser 3.7 MB in, 2.5 MB out": ("denoiser", denoiser_inputs(3)),
        "upscaler 0.2 MB in, 3.1 MB out": ("upscaler", {"image": image(4, 256)}),
        "upscaler 1.2 MB in, 20 MB out": ("upscaler", {"image": image(5, 640)}),
    }


async def _measure(repository: Path, repeats: int, concurrency: int) -> None:
    config = EmbeddedTritonConfig(repository, cache_dir=ROOT / ".cache" / "triton")
    async with EmbeddedTriton(config) as server:
        for shared in (False, True):
            async with InferenceClient(
                [server.grpc_url], facts_dir=server.facts_dir, shared_memory=shared
            ) as client:
                print(f"shared memory: {shared}")
                for title, (model, inputs) in _cases().items():
                    await _one(client, title, model, inputs, repeats)
                await _throughput(client, concurrency)


async def _one(
    client: InferenceClient,
    title: str,
    model: str,
    inputs: Mapping[str, np.ndarray],
    repeats: int,
) -> None:
    timings = []
    for _ in range(repeats + 5):
        result = await client.infer(model, inputs, deadline=Deadline.after(60))
        timings.append(result.timings)
    kept = timings[5:]
    total, compute = (
        statistics.median(values) * 1e3
        for values in ([one.total_s for one in kept], [one.compute_s for one in kept])
    )
    rest = statistics.median(one.total_s - one.compute_s for one in kept) * 1e3
    best = min(one.total_s - one.compute_s for one in kept) * 1e3
    print(
        f"  {title:40} total {total:7.2f}  compute {compute:7.2f}"
        f"  rest {rest:6.2f} (best {best:.2f})"
    )


async def _throughput(client: InferenceClient, concurrency: int) -> None:
    count = 0
    sizes = []
    end = time.monotonic() + 6

    async def caller(seed: int) -> None:
        nonlocal count
        inputs = denoiser_inputs(seed)
        while time.monotonic() < end:
            answer = await client.infer("denoiser", inputs, deadline=Deadline.after(60))
            sizes.append(answer.timings.batch_size)
            count += 1

    begin = time.monotonic()
    await asyncio.gather(*(caller(seed) for seed in range(concurrency)))
    rate = count / (time.monotonic() - begin)
    print(f"  denoiser at concurrency {concurrency}: {rate:.1f}/s, mean batch {np.mean(sizes):.1f}")


def main() -> None:
    """Measure with tiny models, or with a repository of one's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--layers", type=int, default=0, help="make the tiny denoiser heavier")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = arguments.repository or build_repository(
            Path(folder),
            max_batch=4,
            precision="bf16",
            denoiser_layers=arguments.layers,
            delay_us=0,
        )
        asyncio.run(_measure(repository, arguments.repeats, arguments.concurrency))


if __name__ == "__main__":
    main()
