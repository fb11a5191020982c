"""Run a scenario: python -m loadtest create-web [--target HOST:PORT] [--search] [--out DIR]."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from loadtest import machine
from loadtest.access import Access, NoKeyError, keys_from_environment, new_keys
from loadtest.processes import MemoryReading, Service, growth, service, watch
from loadtest.report import page
from loadtest.requests import RequestMaker, example_photos
from loadtest.runner import Generator
from loadtest.scenario import Scenario, load_scenario
from loadtest.search import Probe, highest_rate
from loadtest.summary import Summary, summarise

_FIRST_CONCURRENCY = 8
_MOST_CONCURRENCY = 512
_CAPACITY_SECONDS = 12.0
_WORTH = 1.05  # what more requests under way must bring for still more to be tried
_MEMORY_EVERY_S = 5.0
_UNSEEN_S = 3 * _MEMORY_EVERY_S  # the end of a run that may be without a reading
_FILL_SECONDS = 15.0


def _progress(line: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"{line:<100}", end=end, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Capacity:
    """What a service can do in a closed loop.

    Attributes:
        rate: requests a second that worked.
        concurrency: requests under way that it took.
    """

    rate: float
    concurrency: int


async def capacity(
    generator: Generator,
    scenario: Scenario,
    photos: list[bytes],
    seconds: float = _CAPACITY_SECONDS,
    most: int = _MOST_CONCURRENCY,
) -> Capacity:
    """Return the capacity for the scenario's mix: short runs with more and more under way.

    The number doubles until that brings next to nothing, since what fills a service is not known
    here: its permits follow its cores, and there may be many of it behind a target.

    Args:
        generator: sends the requests.
        scenario: its mix.
        photos: to send.
        seconds: length of each run; before the first, a third of it warms the service up.
        most: requests under way that are tried at most.

    Raises:
        SystemExit: no request worked.
    """
    makers = [RequestMaker(work, photos) for work in scenario.work]
    await generator.closed(makers, _FIRST_CONCURRENCY, seconds / 3, scenario.seed)
    best = Capacity(0.0, _FIRST_CONCURRENCY)
    concurrency = _FIRST_CONCURRENCY
    while concurrency <= most:
        samples = await generator.closed(makers, concurrency, seconds, scenario.seed)
        good = [sample.finished_s for sample in samples if sample.code == "OK"]
        if not good and not best.rate:
            raise SystemExit(f"nothing worked: {sorted({s.reason or s.code for s in samples})}")
        rate = len(good) / max(good) if good else 0.0
        if rate < best.rate * _WORTH:
            break
        best = Capacity(rate, concurrency)
        concurrency *= 2
    return best


async def _fill(generator: Generator, scenario: Scenario, photos: list[bytes]) -> None:
    """Drive the service to its largest working set, or reaching it later would look like growth."""
    for work in scenario.work:
        await generator.closed([RequestMaker(work, photos)], _FIRST_CONCURRENCY, _FILL_SECONDS)
    # All kinds at once, too: what is held side by side is more than what each kind holds alone.
    makers = [RequestMaker(work, photos) for work in scenario.work]
    await asyncio.gather(
        *(generator.closed([maker], _FIRST_CONCURRENCY, _FILL_SECONDS) for maker in makers)
    )


async def _search(
    generator: Generator, scenario: Scenario, start: float
) -> tuple[list[Probe], float]:
    async def run(rate: float) -> Summary:
        samples = await generator.run(scenario, rate)
        return summarise(samples, scenario.seconds, scenario.warmup_s)

    probes = await highest_rate(run, start, scenario.slo_p99_s)
    return probes, max((probe.rate for probe in probes if probe.met), default=0.0)


@contextmanager
def opened(scenario: Scenario, target: str, ca: Path | None) -> Iterator[tuple[Service, Access]]:
    """Yield a service and the way into it: the one at `target`, or one that lives as long.

    Raises:
        NoKeyError: the service at `target` is to be called by a tenant without a key.
    """
    if target:
        pem = ca.read_bytes() if ca is not None else None
        yield Service(target), Access(target, keys_from_environment(scenario), pem)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "credentials.yaml"
        keys = new_keys(scenario, file)
        options = ("--set", f"credentials={file}") if keys else ()
        with service(options=options) as running:
            yield running, Access(running.address, keys)


def main(
    scenario_name: Annotated[str, typer.Argument(help="Name or YAML file.")],
    target: Annotated[str, typer.Option(help="host:port; empty starts a service.")] = "",
    ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM CA of the target's certificate; turns TLS on.", exists=True, dir_okay=False
        ),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos to send.", exists=True, file_okay=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for JSON and HTML.")] = Path("out/loadtest"),
    seconds: Annotated[float, typer.Option(help="Overrides the scenario's length.")] = 0.0,
    rate: Annotated[float, typer.Option(help="Overrides the scenario's rate.")] = 0.0,
    search: Annotated[bool, typer.Option("--search", help="Find the highest rate.")] = False,
) -> None:
    """Run one scenario and write its report."""
    scenario = _scenario(scenario_name, seconds, target)
    if ca is not None and not target:
        raise typer.BadParameter("--ca is for a --target; the service that is started has no TLS")
    try:
        data = example_photos(photos)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--photos: {error}") from None
    about = machine.describe()

    async def work() -> list[str]:
        readings: list[MemoryReading] = []
        with opened(scenario, target, ca) as (running, access):
            generator = Generator(access, data, _progress)
            chosen = rate or scenario.rate
            if not chosen:
                most = await capacity(generator, scenario, data)
                about["capacity, closed loop"] = (
                    f"{most.rate:.2f}/s with {most.concurrency} under way"
                )
                chosen = most.rate * scenario.load
            probes = None
            if search:
                probes, best = await _search(generator, scenario, chosen)
                about["highest rate within the objective"] = f"{best:.2f}/s"
                chosen = best or chosen
            if scenario.memory_growth:
                await _fill(generator, scenario, data)
            watching = None
            if running.usage is not None:
                watching = asyncio.create_task(watch(running.usage, _MEMORY_EVERY_S, readings))
            samples = await generator.run(scenario, chosen)
            if watching is not None:
                watching.cancel()
        summary = summarise(samples, scenario.seconds, scenario.warmup_s)
        grown, failures = verdict(scenario, summary, readings)
        about.update(grown)
        out.mkdir(parents=True, exist_ok=True)
        figures = {
            "scenario": scenario.model_dump(),
            "machine": about,
            "summary": asdict(summary),
            "memory": [asdict(reading) for reading in readings],
            "failures": failures,
        }
        (out / f"{scenario.name}.json").write_text(json.dumps(figures, indent=1))
        report = out / f"{scenario.name}.html"
        report.write_text(page(scenario, summary, samples, about, probes, readings))
        print(json.dumps({**asdict(summary), **grown}, indent=1))
        print(f"report: {report}", file=sys.stderr)
        return failures

    try:
        failed = asyncio.run(work())
    except NoKeyError as error:
        raise SystemExit(str(error)) from None
    for failure in failed:
        print(f"FAILED: {failure}", file=sys.stderr)
    if failed:
        raise SystemExit(1)


def _scenario(name: str, seconds: float, target: str) -> Scenario:
    """Return the scenario, of another length where `seconds` is not 0.

    Raises:
        BadParameter: it limits the growth of memory that cannot be seen.
    """
    scenario = load_scenario(name)
    if target and scenario.memory_growth:
        raise typer.BadParameter(
            f"{scenario.name} limits the growth of memory, which is only known of a service that "
            "is started here: leave --target out, or take a copy with `memory_growth: 0`"
        )
    return scenario.model_copy(update={"seconds": seconds}) if seconds else scenario


def verdict(
    scenario: Scenario, summary: Summary, readings: list[MemoryReading]
) -> tuple[dict[str, str], list[str]]:
    """Return what memory did, in words, and what the scenario does not allow.

    A limit that was not looked at is not kept: too few readings, or none of the end, are a failure.
    """
    told: dict[str, str] = {}
    failures = []
    if not summary.requests:
        failures.append("no request was sent after the warm-up: try a longer run or a higher rate")
    until = max((reading.at_s for reading in readings), default=0.0)
    enough = len([reading for reading in readings if reading.at_s >= scenario.warmup_s]) >= 10
    if enough:
        grown = growth(readings, scenario.warmup_s)
        told["memory growth after the warm-up"] = f"{grown:+.2%}"
        told["memory at the peak"] = f"{max(reading.total for reading in readings):.0f} MB"
        if scenario.memory_growth and grown >= scenario.memory_growth:
            failures.append(f"memory grew by {grown:.2%}, allowed are {scenario.memory_growth:.0%}")
    if scenario.memory_growth and not enough:
        failures.append(
            f"memory was not measured: it takes {10 * _MEMORY_EVERY_S:.0f} s after the warm-up"
        )
    elif scenario.memory_growth and until < scenario.warmup_s + scenario.seconds - _UNSEEN_S:
        failures.append(f"memory was not measured after {until:.0f} s")
    wrong = {code: count for code, count in summary.codes.items() if code != "OK"}
    if scenario.memory_growth and wrong:
        failures.append(f"not every request worked: {wrong}")
    return told, failures


if __name__ == "__main__":
    typer.run(main)
