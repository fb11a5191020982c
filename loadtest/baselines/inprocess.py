"""Run the sequential pipeline in this process and print what it takes, as JSON."""

from __future__ import annotations

import json
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import cv2
import typer

from loadtest.arrivals import Arrivals
from loadtest.baselines.runtimes import OnnxRuntime, OpenVinoRuntime, Runtime
from loadtest.baselines.sequential import SequentialPipeline
from loadtest.requests import example_photos


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _closed(
    pipeline: SequentialPipeline, photos: list[bytes], concurrency: int, seconds: float
) -> list[tuple[float, float]]:
    """Return (start, end) of every headshot of `concurrency` threads that never rest."""
    spans: list[tuple[float, float]] = []
    begun = time.perf_counter()

    def keep(worker: int) -> None:
        index = worker
        while time.perf_counter() - begun < seconds:
            start = time.perf_counter()
            pipeline.make(photos[index % len(photos)], index)
            spans.append((start - begun, time.perf_counter() - begun))
            index += concurrency

    threads = [threading.Thread(target=keep, args=(k,)) for k in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spans


def _open(
    pipeline: SequentialPipeline, photos: list[bytes], threads: int, arrivals: Arrivals
) -> list[tuple[float, float]]:
    """Return (intended start, end) of headshots that arrive by a schedule."""
    spans: list[tuple[float, float]] = []
    begun = time.perf_counter()

    def one(index: int, intended: float) -> None:
        pipeline.make(photos[index % len(photos)], index)
        spans.append((intended, time.perf_counter() - begun))

    with ThreadPoolExecutor(threads) as pool:
        for index, intended in enumerate(arrivals.times()):
            time.sleep(max(0.0, intended - (time.perf_counter() - begun)))
            pool.submit(one, index, float(intended))
    return spans


def throughput(spans: list[tuple[float, float]], until: float) -> float:
    """Return headshots a second from the start until then, parts of headshots counted as such.

    Without parts a run of a few headshots would be judged by how its last ones happen to end.
    """
    return sum(max(0.0, min(end, until) - start) / (end - start) for start, end in spans) / until


def main(
    runtime: Annotated[str, typer.Option(help="openvino or onnxruntime.")] = "openvino",
    repository: Annotated[Path, typer.Option()] = Path("model_repository"),
    photos: Annotated[Path | None, typer.Option()] = None,
    rendition: Annotated[str, typer.Option()] = "web",
    concurrency: Annotated[int, typer.Option()] = 1,
    rate: Annotated[float, typer.Option(help="Open loop at this rate.")] = 0.0,
    seconds: Annotated[float, typer.Option()] = 15.0,
    threads: Annotated[int, typer.Option(help="Headshots that are worked on at once.")] = 2,
) -> None:
    """Warm up, run, print one JSON object."""
    cv2.setNumThreads(1)
    data = example_photos(photos)
    made: Runtime
    if runtime == "openvino":
        made = OpenVinoRuntime(repository, 1 if concurrency == 1 and not rate else threads)
    else:
        made = OnnxRuntime(repository)
    # The floor is the same work as the service's; the plain pipeline is what one writes first.
    pipeline = SequentialPipeline(made, repository, rendition, sparing=runtime == "openvino")
    for index in range(2):
        pipeline.make(data[index % len(data)], index)
    before, begun = _cpu(), time.perf_counter()
    if rate:
        spans = _open(pipeline, data, threads, Arrivals("poisson", rate, seconds, seed=1))
    else:
        spans = _closed(pipeline, data, min(concurrency, max(threads, 1)), seconds)
    spent = time.perf_counter() - begun
    print(
        json.dumps(
            {
                "latencies": [end - start for start, end in spans],
                "seconds": spent,
                "throughput": len(spans) / spent if rate else throughput(spans, seconds),
                "cpu_s": _cpu() - before,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    typer.run(main)
