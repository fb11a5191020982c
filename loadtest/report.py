"""One self-contained HTML page: tables and plots as inline SVG."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable
from dataclasses import asdict

import matplotlib as mpl
import numpy as np

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from loadtest.processes import MemoryReading
from loadtest.runner import Sample
from loadtest.scenario import Scenario
from loadtest.search import Probe
from loadtest.summary import Summary, percentiles

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;margin:.6rem 0}
td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto}.note{color:#666}pre{background:#f6f6f4;padding:.8rem;overflow:auto}
"""
_BIN_S = 1.0


def plot(draw: Callable[[Axes], None], height: float = 3.2) -> str:
    """Return a figure as an SVG element."""
    figure, axes = plt.subplots(figsize=(9.2, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    draw(axes)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def table(rows: list[list[str]]) -> str:
    """Return rows of cells, the first of them the head, as a table element."""
    head, *body = rows
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


def _percentile_curve(samples: list[Sample]) -> str:
    def draw(axes: Axes) -> None:
        for label, values in (
            ("from the intended time", sorted(s.latency_s for s in samples)),
            ("from the real send time (uncorrected)", sorted(s.service_s for s in samples)),
        ):
            share = 1 - np.arange(1, len(values) + 1) / (len(values) + 1)
            axes.plot(1 / share, np.asarray(values) * 1e3, label=label)
        axes.set_xscale("log")
        ticks = [2, 10, 100, 1000]
        axes.set_xticks(ticks, ["50%", "90%", "99%", "99.9%"])
        axes.set_xlabel("percentile")
        axes.set_ylabel("milliseconds")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)

    return plot(draw)


def _over_time(samples: list[Sample]) -> str:
    def draw(axes: Axes) -> None:
        good = [s for s in samples if s.code == "OK"]
        bad = [s for s in samples if s.code != "OK"]
        axes.plot([s.intended_s for s in good], [s.latency_s * 1e3 for s in good], ".", ms=4)
        for code in sorted({s.code for s in bad}):
            times = [s.intended_s for s in bad if s.code == code]
            axes.plot(times, [0] * len(times), "x", ms=6, label=f"{code} ({len(times)})")
        if bad:
            axes.legend(frameon=False)
        axes.set_xlabel("seconds from the start")
        axes.set_ylabel("milliseconds")

    return plot(draw)


def _rates_over_time(samples: list[Sample]) -> str:
    def draw(axes: Axes) -> None:
        end = max(s.finished_s for s in samples)
        edges = np.arange(min(s.intended_s for s in samples), end + _BIN_S, _BIN_S)
        series = {
            "sent": [s.intended_s for s in samples],
            "answered": [s.finished_s for s in samples if s.code == "OK"],
            "refused or failed": [s.finished_s for s in samples if s.code != "OK"],
        }
        for label, times in series.items():
            counts, _ = np.histogram(times, edges)
            axes.step(edges[:-1], counts / _BIN_S, where="post", label=label)
        axes.set_xlabel("seconds from the start")
        axes.set_ylabel("a second")
        axes.legend(frameon=False)

    return plot(draw)


def _times(samples: list[Sample]) -> str:
    if not samples:
        return "<p class='note'>No request was sent after the warm-up.</p>"
    return _over_time(samples) + _rates_over_time(samples)


def _stage_bars(summary: Summary) -> str:
    def draw(axes: Axes) -> None:
        names = list(summary.stages)
        left = np.zeros(len(names))
        parts = ("queue_ms", "wire_ms", "compute_ms")
        for part in parts:
            values = np.array([summary.stages[name][part] for name in names])
            axes.barh(names, values, left=left, label=part.removesuffix("_ms"))
            left += values
        rest = np.array([summary.stages[name]["total_ms"] for name in names]) - left
        axes.barh(names, np.maximum(rest, 0), left=left, label="gateway", color="#bbb")
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds a request, summed over its model calls")
        axes.legend(frameon=False)

    return plot(draw, 0.35 * len(summary.stages) + 1.2)


def _batches(samples: list[Sample]) -> str:
    values = [s.stages["denoise"].mean_batch for s in samples if "denoise" in s.stages]
    if not values:
        return "<p class='note'>No denoise steps in this run.</p>"

    def draw(axes: Axes) -> None:
        axes.hist(values, bins=np.arange(0.75, max(values) + 0.5, 0.25))
        axes.set_xlabel("rows that ran together with a request's denoise steps (mean)")
        axes.set_ylabel("requests")

    return plot(draw, 2.6)


def _rate_curve(probes: list[Probe]) -> str:
    def draw(axes: Axes) -> None:
        ordered = sorted(probes, key=lambda probe: probe.rate)
        rates = [probe.rate for probe in ordered]
        for name in ("p50", "p99"):
            values = [probe.summary.latency.get(name, float("nan")) * 1e3 for probe in ordered]
            axes.plot(rates, values, "o-", label=name)
        axes.set_xlabel("offered requests a second")
        axes.set_ylabel("milliseconds")
        axes.legend(frameon=False)

    return plot(draw)


def _memory(readings: list[MemoryReading]) -> str:
    def draw(axes: Axes) -> None:
        minutes = [reading.at_s / 60 for reading in readings]
        axes.plot(minutes, [reading.total for reading in readings], label="whole service")
        axes.plot(minutes, [reading.triton for reading in readings], label="Triton and models")
        axes.plot(minutes, [reading.gateway for reading in readings], label="gateway")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
        axes.set_ylabel("resident MB")
        axes.legend(frameon=False)

    return plot(draw)


def _figures(summary: Summary) -> str:
    rows = [["", *summary.latency]]
    for label, values in (
        ("latency, from the intended time", summary.latency),
        ("uncorrected, from the send time", summary.uncorrected),
        ("the generator's own lag", summary.lag),
    ):
        rows.append([label, *(f"{values.get(key, 0) * 1e3:.1f} ms" for key in summary.latency)])
    return table(rows)


def page(
    scenario: Scenario,
    summary: Summary,
    samples: list[Sample],
    machine: dict[str, str],
    probes: list[Probe] | None = None,
    memory: list[MemoryReading] | None = None,
) -> str:
    """Return the report as HTML."""
    good = [sample for sample in samples if sample.code == "OK"]
    codes = table(
        [["code", "count"], *([code, str(count)] for code, count in summary.codes.items())]
    )
    parts = [
        f"<h1>{html.escape(scenario.name)}</h1><p>{html.escape(scenario.description)}</p>",
        f"<p>{summary.requests} requests at {summary.offered_rate:.2f}/s offered, "
        f"{summary.goodput:.2f}/s answered; {summary.degraded} degraded. Warm-up of "
        f"{scenario.warmup_s:g} s left out.</p>",
        f"<h2>Latency</h2>{_figures(summary)}{_percentile_curve(good) if good else ''}",
        f"<h2>Over time</h2>{_times(samples)}{codes}",
        f"<h2>Stages</h2>{_stage_bars(summary) if summary.stages else ''}",
        f"<h2>Batches</h2>{_batches(good)}",
    ]
    kinds = sorted({(s.kind, s.tenant) for s in good})
    if len(kinds) > 1:
        rows = [["kind", "requests", "p50", "p99"]]
        for kind, tenant in kinds:
            mine = [s.latency_s for s in good if (s.kind, s.tenant) == (kind, tenant)]
            found = percentiles(mine)
            label = f"{kind} {tenant}".strip()
            rows.append(
                [label, str(len(mine)), *(f"{found[p] * 1e3:.0f} ms" for p in ("p50", "p99"))]
            )
        parts.append(f"<h2>By kind</h2>{table(rows)}")
    if probes:
        parts.append(f"<h2>Rate against latency</h2>{_rate_curve(probes)}")
    if memory:
        parts.append(f"<h2>Memory</h2>{_memory(memory)}")
    parts.append(f"<h2>Machine</h2>{table([['', ''], *([k, v] for k, v in machine.items())])}")
    figures = html.escape(json.dumps(asdict(summary), indent=1))
    parts.append(f"<h2>Figures</h2><pre>{figures}</pre>")
    return document(scenario.name, "".join(parts))


def document(title: str, body: str) -> str:
    """Return a page that needs nothing else."""
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{body}</body></html>"
    )
