"""Run a scenario: python -m loadtest create-web [--target HOST:PORT] [--search] [--out DIR]."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from headshot.api.gateway import run_gateway
from headshot.config import Settings
from headshot.telemetry import logs

from loadtest import machine
from loadtest.report import page
from loadtest.requests import RequestMaker, example_photos
from loadtest.runner import Generator
from loadtest.scenario import Scenario, load_scenario
from loadtest.search import Probe, highest_rate
from loadtest.summary import Summary, summarise

_CAPACITY_CONCURRENCY = 8
_CAPACITY_SECONDS = 12.0


def _progress(line: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"{line:<100}", end=end, file=sys.stderr, flush=True)


@asynccontextmanager
async def target_of(target: str) -> AsyncIterator[str]:
    """Yield the address of a running service, or of one that lives as long as the run."""
    if target:
        yield target
        return
    logs.configure("error")
    async with run_gateway(Settings(port=0, operations_port=0)) as gateway:
        yield gateway.address


async def capacity(generator: Generator, scenario: Scenario, photos: list[bytes]) -> float:
    """Return requests a second of the scenario's first kind, closed loop, a short run."""
    maker = RequestMaker(scenario.work[0], photos)
    samples = await generator.closed(maker, _CAPACITY_CONCURRENCY, _CAPACITY_SECONDS)
    good = [sample for sample in samples if sample.code == "OK"]
    if not good:
        raise SystemExit(f"nothing worked: {sorted({s.reason or s.code for s in samples})}")
    return len(good) / max(sample.finished_s for sample in good)


async def _search(
    generator: Generator, scenario: Scenario, start: float
) -> tuple[list[Probe], float]:
    async def run(rate: float) -> Summary:
        return summarise(await generator.run(scenario, rate))

    probes = await highest_rate(run, start, scenario.slo_p99_s)
    return probes, max((probe.rate for probe in probes if probe.met), default=0.0)


def main(
    scenario_name: Annotated[str, typer.Argument(help="Name or YAML file.")],
    target: Annotated[str, typer.Option(help="host:port; empty starts a service.")] = "",
    photos: Annotated[Path | None, typer.Option(help="Folder of photos to send.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for JSON and HTML.")] = Path("out/loadtest"),
    seconds: Annotated[float, typer.Option(help="Overrides the scenario's length.")] = 0.0,
    rate: Annotated[float, typer.Option(help="Overrides the scenario's rate.")] = 0.0,
    search: Annotated[bool, typer.Option("--search", help="Find the highest rate.")] = False,
) -> None:
    """Run one scenario and write its report."""
    scenario = load_scenario(scenario_name)
    if seconds:
        scenario = scenario.model_copy(update={"seconds": seconds})
    about = machine.describe()

    async def work() -> None:
        data = example_photos(photos)
        async with target_of(target) as address:
            generator = Generator(address, data, _progress)
            chosen = rate or scenario.rate
            if not chosen:
                most = await capacity(generator, scenario, data)
                about["capacity, closed loop"] = f"{most:.2f}/s"
                chosen = most * scenario.load
            probes = None
            if search:
                probes, best = await _search(generator, scenario, chosen)
                about["highest rate within the objective"] = f"{best:.2f}/s"
                chosen = best or chosen
            samples = await generator.run(scenario, chosen)
        summary = summarise(samples)
        out.mkdir(parents=True, exist_ok=True)
        figures = {"scenario": scenario.model_dump(), "machine": about, "summary": asdict(summary)}
        (out / f"{scenario.name}.json").write_text(json.dumps(figures, indent=1))
        report = out / f"{scenario.name}.html"
        report.write_text(page(scenario, summary, samples, about, probes))
        print(json.dumps(asdict(summary), indent=1))
        print(f"report: {report}", file=sys.stderr)

    asyncio.run(work())


if __name__ == "__main__":
    typer.run(main)
