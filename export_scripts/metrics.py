"""One measured figure of a model, and how a list of them is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """A figure, in the unit given, with the bar it must reach.

    ``bar`` is ``None`` for a figure that is only reported; ``better`` says on which side of the
    bar it passes.
    """

    model: str
    name: str
    value: float
    unit: str = ""
    bar: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def passed(self) -> bool | None:
        """Whether the bar is reached; ``None`` without a bar. A NaN never passes."""
        if self.bar is None:
            return None
        value = float(self.value)  # evaluations hand in numpy's scalars, which JSON refuses
        return value >= self.bar if self.better == "higher" else value <= self.bar

    def as_json(self) -> dict[str, Any]:
        """All fields and the verdict."""
        return {**asdict(self), "value": float(self.value), "passed": self.passed}


def table(metrics: Sequence[Metric]) -> str:
    """An aligned text table: model, metric, value, bar, verdict."""
    rows = [("model", "metric", "value", "bar", "")]
    for metric in metrics:
        sign = ">=" if metric.better == "higher" else "<="
        bar = "" if metric.bar is None else f"{sign} {metric.bar:g}"
        verdict = {True: "ok", False: "SHORT", None: ""}[metric.passed]
        value = f"{metric.value:.5g} {metric.unit}".rstrip()
        rows.append((metric.model, metric.name, value, bar, verdict))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, every column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
