"""Write dashboards/*.json: `python deploy/grafana/generate_dashboards.py` (`--check` compares).

Grafana's JSON is long and repeats itself; the panels are described in *_dashboards.py and the JSON
is committed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from model_dashboards import QUALITY, TRITON
from panels import render
from service_dashboards import OVERVIEW, STAGES

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = (OVERVIEW, STAGES, TRITON, QUALITY)


def files() -> dict[Path, str]:
    """Return each file's path and text."""
    return {
        FOLDER / f"{dashboard.uid}.json": json.dumps(render(dashboard), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }


def main() -> int:
    """Write the files, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="only say whether they are fresh")
    check = parser.parse_args().check
    FOLDER.mkdir(parents=True, exist_ok=True)
    stale = 0
    for path, text in files().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if check:
            print(f"{path} is not what the script writes")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
