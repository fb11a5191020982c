"""`make chaos`: run all scenarios (or those named) and print the table; exit 1 when one fails."""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
from pathlib import Path

from tests.chaos.harness import serving_repository
from tests.chaos.scenarios import SCENARIOS, Row

HEADER = (
    "| scenario | load held | faults | sent | answered | refused, typed | lost | wrong | recovery |"
    " kept | notes |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """Return a row as a line of a Markdown table."""
    recovery = "-" if math.isnan(row.recovery_s) else f"{row.recovery_s:.1f} s"
    return (
        f"| {row.name} | {row.load} | {row.faults} | {row.sent} | {row.answered} | {row.refused} |"
        f" {row.lost} | {row.wrong} | {recovery} | {'yes' if row.passed else 'NO'} | {row.note} |"
    )


async def run(names: list[str]) -> int:
    """Run the scenarios one after another."""
    with tempfile.TemporaryDirectory(prefix="headshot-chaos-") as folder:
        repository, stand_ins = serving_repository(Path(folder))
        if stand_ins:
            print(f"tiny networks stand in for: {', '.join(stand_ins)}", flush=True)
        rows = []
        for name in names:
            print(f"running: {name}", file=sys.stderr, flush=True)
            rows.append(await SCENARIOS[name](repository))
            print(line(rows[-1]), file=sys.stderr, flush=True)
    print(HEADER)
    print("\n".join(map(line, rows)))
    return 0 if all(row.passed for row in rows) else 1


def main() -> int:
    """Run the scenarios named on the command line, or all."""
    names = sys.argv[1:] or list(SCENARIOS)
    unknown = set(names) - SCENARIOS.keys()
    if unknown:
        print(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
        return 2
    return asyncio.run(run(names))


if __name__ == "__main__":
    sys.exit(main())
