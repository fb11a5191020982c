"""How the time of a CreateHeadshot grows with the work (python -m loadtest.growth).

Candidates 1 to 8, photos 1 to 16, pixels of the photo 1 to 16 MP; one request at a time, web size.
Linear or better means that n times the work takes at most n times as long, and that twice the work
never takes more than twice as long as the step before.
"""

from __future__ import annotations

import asyncio
import html
import io
import json
import statistics
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import skimage.data
import typer
from headshot.client import AsyncHeadshotClient
from matplotlib.axes import Axes
from PIL import Image

from loadtest import machine
from loadtest.processes import service
from loadtest.report import document, plot, table
from loadtest.requests import RequestMaker
from loadtest.scenario import Work

_TOLERANCE = 1.05
_WORK = Work(kind="create", renditions=("web",), timeout_s=300)
SERIES = {
    "candidates": (1, 2, 4, 8),
    "photos": (1, 2, 4, 8, 16),
    "megapixels": (1, 2, 4, 8, 16),
}


@dataclass(frozen=True)
class Series:
    """One kind of work.

    Attributes:
        name: candidates, photos or megapixels.
        amounts: how much of it.
        seconds: median latency at each amount.
    """

    name: str
    amounts: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def worst_step(self) -> float:
        """Largest growth of a step over the growth of its work; 1 is linear, less is better."""
        pairs = list(zip(self.amounts, self.seconds, strict=True))
        return max((t1 / t0) / (n1 / n0) for (n0, t0), (n1, t1) in pairwise(pairs))

    @property
    def linear(self) -> bool:
        """Whether no step grew faster than its work (5% are left to noise)."""
        return self.worst_step <= _TOLERANCE


def photo_of(megapixels: float) -> bytes:
    """Return the astronaut as a JPEG of so many million pixels."""
    side = round((megapixels * 1e6) ** 0.5)
    image = Image.fromarray(np.asarray(skimage.data.astronaut()))
    out = io.BytesIO()
    image.resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    return out.getvalue()


async def measure(address: str, rounds: int) -> list[Series]:
    """Return every series; the amounts take turns, so that a busy moment meets all of them."""
    small = photo_of(2)
    cases: dict[tuple[str, int], RequestMaker] = {}
    for amount in SERIES["candidates"]:
        work = _WORK.model_copy(update={"candidates": amount})
        cases["candidates", amount] = RequestMaker(work, [small])
    for amount in SERIES["photos"]:
        work = _WORK.model_copy(update={"photos": amount})
        cases["photos", amount] = RequestMaker(work, [small])
    for amount in SERIES["megapixels"]:
        cases["megapixels", amount] = RequestMaker(_WORK, [photo_of(amount)])
    spent: dict[tuple[str, int], list[float]] = {key: [] for key in cases}
    loop = asyncio.get_running_loop()
    async with AsyncHeadshotClient(address) as client:
        await cases["candidates", 1].send(client, 0)
        for index in range(rounds):
            for key, maker in cases.items():
                begun = loop.time()
                await maker.send(client, index)
                spent[key].append(loop.time() - begun)
    return [
        Series(name, amounts, tuple(statistics.median(spent[name, amount]) for amount in amounts))
        for name, amounts in SERIES.items()
    ]


def report(series: list[Series], about: dict[str, str]) -> str:
    """Return the page."""
    parts = ["<h1>Cost as work grows</h1><p>One request at a time, web size, medians.</p>"]
    for one in series:

        def draw(axes: Axes, one: Series = one) -> None:
            axes.plot(one.amounts, one.seconds, "o-", label="measured")
            linear = [one.seconds[0] * amount for amount in one.amounts]
            axes.plot(one.amounts, linear, "--", color="#999", label="linear from the first")
            axes.set_ylim(0, 1.6 * max(one.seconds))
            axes.set_xticks(one.amounts)
            axes.set_xlabel(one.name)
            axes.set_ylabel("seconds")
            axes.legend(frameon=False)

        rows = [[one.name, *map(str, one.amounts)]]
        rows.append(["seconds", *(f"{seconds:.2f}" for seconds in one.seconds)])
        verdict = "linear or better" if one.linear else "NOT linear"
        parts.append(
            f"<h2>{html.escape(one.name)}: {verdict}</h2>{plot(draw)}{table(rows)}"
            f"<p>Worst step: {one.worst_step:.2f} of its work's growth (1 is linear).</p>"
        )
    parts.append(f"<h2>Machine</h2>{table([['', ''], *([k, v] for k, v in about.items())])}")
    return document("Cost as work grows", "".join(parts))


def main(
    rounds: Annotated[int, typer.Option(help="Requests of each size.")] = 3,
    target: Annotated[str, typer.Option(help="host:port; empty starts a service.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for JSON and HTML.")] = Path("out/growth"),
) -> None:
    """Measure, print the table, write the page; fail where something grows faster than its work."""
    about = machine.describe()
    with service(target) as running:
        found = asyncio.run(measure(running.address, rounds))
    for one in found:
        figures = "  ".join(
            f"{amount}: {seconds:.2f} s"
            for amount, seconds in zip(one.amounts, one.seconds, strict=True)
        )
        print(f"{one.name:<11} {figures}  worst step {one.worst_step:.2f}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "growth.json").write_text(
        json.dumps({"machine": about, "series": [asdict(one) for one in found]}, indent=1)
    )
    (out / "growth.html").write_text(report(found, about))
    failed = [one.name for one in found if not one.linear]
    if failed:
        raise SystemExit(f"grows faster than its work: {', '.join(failed)}")


if __name__ == "__main__":
    typer.run(main)
