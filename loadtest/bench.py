"""make bench: floor, service, plain pipeline and FastAPI on the same files, in one run, one table.

Each contender runs alone in processes of its own. Compare the ratios: the machine may be shared.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

import httpx
import typer

from loadtest import machine
from loadtest.access import Access
from loadtest.arrivals import Arrivals
from loadtest.processes import ROOT, Usage, free_port, running, service
from loadtest.requests import RequestMaker, example_photos
from loadtest.runner import Generator, Sample
from loadtest.scenario import Scenario, Work
from loadtest.summary import percentiles

CONCURRENCIES = (1, 4, 16)
_POISSON_LOAD = 0.7
_WATCH_S = 0.5
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Row:
    """One contender under one load.

    Attributes:
        contender: who.
        load: "closed 16" or "poisson 0.7".
        throughput: headshots a second.
        p50_s, p99_s: latency, seconds.
        cpu_s: processor seconds a headshot, all processes of the contender.
        rss_mb: resident memory, all processes, at the peak of this load.
        failures: requests that did not work.
        codes: how often each code and reason came that is not OK.
        stages: mean milliseconds of each stage, where the contender tells.
        computing_ms: mean milliseconds of a request in which at least one network was computing.
        latency_s: mean latency, seconds.
        own_cpu_s: processor seconds a headshot of the gateway alone.
    """

    contender: str
    load: str
    throughput: float
    p50_s: float
    p99_s: float
    cpu_s: float
    rss_mb: float
    failures: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    computing_ms: float = 0.0
    latency_s: float = 0.0
    own_cpu_s: float = 0.0


def _row(
    contender: str,
    load: str,
    latencies: list[float],
    seconds: float,
    cpu: float,
    rss: float,
    throughput: float | None = None,
) -> Row:
    found = percentiles(latencies)
    count = max(len(latencies), 1)
    return Row(
        contender,
        load,
        len(latencies) / seconds if throughput is None else throughput,
        found.get("p50", 0.0),
        found.get("p99", 0.0),
        cpu / count,
        rss,
    )


def _in_process(contender: str, runtime: str, settings: Bench) -> list[Row]:
    """Measure the sequential pipeline in a process of its own, once for each load."""
    rows = []

    def run(load: str, *options: str) -> Row:
        command = [sys.executable, "-m", "loadtest.baselines.inprocess", "--runtime", runtime]
        command += ["--repository", str(settings.repository), "--rendition", settings.rendition]
        command += ["--seconds", str(settings.seconds), *settings.photo_options(), *options]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=900)
        figures = json.loads(done.stdout.splitlines()[-1])
        return _row(
            contender,
            load,
            figures["latencies"],
            figures["seconds"],
            figures["cpu_s"],
            figures["rss_mb"],
            figures["throughput"],
        )

    threads = str(settings.floor_threads if runtime == "openvino" else 1)
    for concurrency in CONCURRENCIES:
        options = ["--concurrency", str(concurrency), "--threads", threads]
        rows.append(run(f"closed {concurrency}", *options))
    rate = _POISSON_LOAD * max(row.throughput for row in rows)
    rows.append(run("poisson 0.7", "--rate", str(rate), "--threads", threads))
    return rows


@dataclass(frozen=True)
class Bench:
    """What is measured: the rendition, for how long, with which photos and models."""

    repository: Path
    rendition: str
    seconds: float
    photos: Path | None
    floor_threads: int

    def photo_options(self) -> list[str]:
        """Return the option that names the photos, if any."""
        return ["--photos", str(self.photos)] if self.photos else []


async def _service(settings: Bench) -> list[Row]:
    work = Work(kind="create", renditions=(settings.rendition,), timeout_s=120)
    photos = example_photos(settings.photos)
    rows = []
    with service(repository=settings.repository) as running_service:
        usage = running_service.usage
        assert usage is not None
        generator = Generator(Access(running_service.address), photos)
        rows.append(Row("gateway", "idle", 0, 0, 0, 0, usage.parts()["gateway"]))
        rows.append(Row("service", "idle", 0, 0, 0, 0, usage.memory()))
        maker = RequestMaker(work, photos)
        await generator.closed([maker], 4, 5.0)
        for concurrency in CONCURRENCIES:
            rows.append(
                await _measured(
                    f"closed {concurrency}",
                    usage,
                    generator.closed([maker], concurrency, settings.seconds),
                )
            )
        rate = _POISSON_LOAD * max(row.throughput for row in rows)
        scenario = poisson(work, rate, settings.seconds)
        rows.append(await _measured("poisson 0.7", usage, generator.run(scenario, rate)))
    return rows


def poisson(work: Work, rate: float, seconds: float) -> Scenario:
    """Return the open load of the bench.

    Without a warm-up: the closed loads were one, and samples that are dropped would be missing
    beside processor time and seconds that are not.
    """
    return Scenario(
        name="bench", description="", rate=rate, seconds=seconds, warmup_s=0, work=(work,)
    )


async def _watched(usage: Usage, load: Coroutine[None, None, _Result]) -> _Result:
    """Run a load while the peak of the contender's memory is kept."""
    usage.forget_peak()
    usage.note_peak()
    task = asyncio.ensure_future(load)
    while not task.done():
        await asyncio.wait([task], timeout=_WATCH_S)
        if not task.done():  # counting pages takes time, which would be the load's
            usage.note_peak()
    return task.result()


async def _measured(load: str, usage: Usage, work: Coroutine[None, None, list[Sample]]) -> Row:
    """Run a load of the service while its memory is watched."""
    before, own, begun = usage.cpu(), usage.own_cpu(), time.perf_counter()
    samples = await _watched(usage, work)
    seconds = time.perf_counter() - begun
    good = [sample for sample in samples if sample.code == "OK"]
    row = _row(
        "service",
        load,
        [sample.latency_s for sample in good],
        seconds,
        usage.cpu() - before,
        usage.peak_mb,
    )
    stages: dict[str, float] = {}
    for sample in good:
        for name, share in sample.stages.items():
            stages[name] = stages.get(name, 0.0) + share.total_ms / len(good)
    return replace(
        row,
        failures=len(samples) - len(good),
        codes=dict(
            Counter(f"{one.code} {one.reason}".strip() for one in samples if one.code != "OK")
        ),
        stages=stages,
        computing_ms=sum(sample.computing_ms for sample in good) / max(len(good), 1),
        latency_s=sum(sample.latency_s for sample in good) / max(len(good), 1),
        own_cpu_s=(usage.own_cpu() - own) / max(len(good), 1),
    )


async def _fastapi(settings: Bench) -> list[Row]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "loadtest.baselines.fastapi_app:app"]
    command += ["--port", str(port), "--log-level", "error"]
    os.environ["HEADSHOT_MODEL_REPOSITORY"] = str(settings.repository)
    os.environ["BASELINE_RENDITION"] = settings.rendition
    photos = example_photos(settings.photos)
    url = f"http://127.0.0.1:{port}"
    rows = []
    with running(command, f"{url}/ready") as process:
        usage = Usage(process.pid)
        async with httpx.AsyncClient(timeout=300) as client:

            async def send(index: int) -> None:
                files = {"photo": photos[index % len(photos)]}
                answer = await client.post(f"{url}/headshot", data={"seed": index}, files=files)
                answer.raise_for_status()

            await send(0)
            for concurrency in CONCURRENCIES:
                rows.append(
                    await _http_load(
                        f"closed {concurrency}", usage, send, concurrency, settings.seconds
                    )
                )
            rate = _POISSON_LOAD * max(row.throughput for row in rows)
            rows.append(await _http_open(usage, send, rate, settings.seconds))
    return rows


async def _http_load(load: str, usage: Usage, send, concurrency: int, seconds: float) -> Row:  # type: ignore[no-untyped-def]
    latencies: list[float] = []
    before, begun = usage.cpu(), time.perf_counter()

    async def keep(worker: int) -> None:
        index = worker
        while time.perf_counter() - begun < seconds:
            start = time.perf_counter()
            await send(index)
            latencies.append(time.perf_counter() - start)
            index += concurrency

    await _watched(usage, _all(keep(worker) for worker in range(concurrency)))
    elapsed = time.perf_counter() - begun
    return _row("fastapi", load, latencies, elapsed, usage.cpu() - before, usage.peak_mb)


async def _http_open(usage: Usage, send, rate: float, seconds: float) -> Row:  # type: ignore[no-untyped-def]
    latencies: list[float] = []
    before, begun = usage.cpu(), time.perf_counter()

    async def one(index: int, intended: float) -> None:
        await asyncio.sleep(max(0.0, intended - (time.perf_counter() - begun)))
        await send(index)
        latencies.append(time.perf_counter() - begun - intended)

    times = Arrivals("poisson", rate, seconds, seed=1).times()
    await _watched(usage, _all(one(index, float(t)) for index, t in enumerate(times)))
    elapsed = time.perf_counter() - begun
    cpu = usage.cpu() - before
    return _row("fastapi", "poisson 0.7", latencies, elapsed, cpu, usage.peak_mb)


async def _all(loads: Iterable[Coroutine[None, None, None]]) -> None:
    await asyncio.gather(*loads)


def ratios(rows: list[Row]) -> dict[str, float]:
    """Return the ratios that the service is judged by."""
    found = {(row.contender, row.load): row for row in rows}
    service = found["service", "closed 16"].throughput
    result = {
        "service / floor, throughput at 16": service / found["floor", "closed 16"].throughput,
        "p99 at 70% Poisson / unloaded p50": found["service", "poisson 0.7"].p99_s
        / found["service", "closed 1"].p50_s,
    }
    alone = found["service", "closed 1"]
    # The second does not depend on what runs beside what: pixels that are worked on while a network
    # computes are in it, and lengthen the network's time in the first.
    result["gateway's share of the latency at 1"] = 1 - alone.computing_ms / (alone.latency_s * 1e3)
    result["gateway's share of processor time at 1"] = alone.own_cpu_s / alone.cpu_s
    for other in ("plain", "fastapi"):
        if (other, "closed 16") in found:
            ratio = service / found[other, "closed 16"].throughput
            result[f"service / {other}, throughput at 16"] = ratio
    return result


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    lines = [
        f"{'contender':<10} {'load':<12} {'1/s':>6} {'p50 ms':>8} {'p99 ms':>8} "
        f"{'cpu s':>6} {'MB':>6} {'failed':>6}"
    ]
    for row in rows:
        lines.append(
            f"{row.contender:<10} {row.load:<12} {row.throughput:6.2f} {row.p50_s * 1e3:8.0f} "
            f"{row.p99_s * 1e3:8.0f} {row.cpu_s:6.2f} {row.rss_mb:6.0f} {row.failures:6d}"
        )
    return "\n".join(lines)


def main(
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 20.0,
    rendition: Annotated[str, typer.Option(help="web or print.")] = "web",
    photos: Annotated[Path | None, typer.Option(help="Folder of photos.")] = None,
    repository: Annotated[Path, typer.Option(help="Models.")] = ROOT / "model_repository",
    contenders: Annotated[str, typer.Option(help="Which, by comma.")] = (
        "floor,service,plain,fastapi"
    ),
    out: Annotated[Path, typer.Option(help="JSON of all figures.")] = Path("out/bench.json"),
) -> None:
    """Run the contenders one after the other and print the table."""
    cores = len(os.sched_getaffinity(0))
    settings = Bench(repository.resolve(), rendition, seconds, photos, cores)
    about = machine.describe()
    rows: list[Row] = []
    for name in contenders.split(","):
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        if name == "floor":
            rows += _in_process("floor", "openvino", settings)
        elif name == "plain":
            rows += _in_process("plain", "onnxruntime", settings)
        elif name == "service":
            rows += asyncio.run(_service(settings))
        elif name == "fastapi":
            rows += asyncio.run(_fastapi(settings))
        else:
            raise typer.BadParameter(f"{name!r} is none of floor, service, plain, fastapi")
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    print(table(rows))
    judged = ratios(rows) if {row.contender for row in rows} >= {"floor", "service"} else {}
    for key, value in judged.items():
        print(f"{key}: {value:.2f}")
    for row in rows:
        if row.codes:
            told = ", ".join(f"{count} {code}" for code, count in row.codes.items())
            print(f"not answered, {row.contender} {row.load}: {told}")
        if row.contender == "service" and row.load == "closed 1":
            told = ", ".join(f"{name} {spent:.0f}" for name, spent in row.stages.items())
            told += f"; a network computing {row.computing_ms:.0f}"
            print(f"stages of the service at 1, ms: {told}")
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": about, "rows": [asdict(row) for row in rows], "ratios": judged}
    out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)
