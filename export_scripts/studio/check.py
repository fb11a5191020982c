"""Everything of the studio profile that can be proven without its weights and without a GPU.

    python -m export_scripts.studio.check [--quick] [--keep FOLDER]

Exports every network with seeded random weights at reduced width in every precision it holds,
compares each graph with torch, then serves the stack and its alternatives with the embedded Triton:
load, contract, equality with the runtime, CreateHeadshot, batching, cancellation. Ends with a
table; exit status 1 when a line does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from export_scripts.studio import parity
from export_scripts.studio.onnx_export import export
from export_scripts.studio.repository import write_model
from export_scripts.studio.sizes import NARROW
from export_scripts.studio.spec import Precision, StudioModel
from export_scripts.studio.stack import random_stack

ROOT = Path(__file__).parents[2]
CANVAS = 256


@dataclass(frozen=True)
class Row:
    """One exported graph and how far it is from torch.

    Attributes:
        model: the model that it fills.
        variant: what it is filled with.
        precision: arithmetic of the graph.
        error: its distance from torch, None where the export failed.
        served: folder that Triton loads it from; empty for a graph that is only compared.
        failure: why the export failed.
    """

    model: str
    variant: str
    precision: Precision
    error: parity.Parity | None
    served: str = ""
    failure: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is within the precision's tolerance and rows are independent."""
        if self.error is None:
            return False
        return self.error.relative <= parity.TOLERANCE[self.precision] and self.error.rows <= 1e-6


def variant_of(model: StudioModel) -> str:
    """Name what fills a model, for the table."""
    for key in ("detector", "recogniser", "matte", "upscaler", "control", "identity_input"):
        if key in model.parameters:
            return model.parameters[key]
    return "-"


def folder_of(model: StudioModel, scratch: Path, precision: Precision) -> Path:
    """Return where a graph is exported to."""
    return scratch / f"{model.name}-{variant_of(model)}-{precision}"


def measure(model: StudioModel, precision: Precision, scratch: Path, served: str) -> Row:
    """Export one graph and compare it with torch."""
    name = variant_of(model)
    try:
        path = export(model, folder_of(model, scratch, precision), precision)
        error = parity.measure(model, path, precision)
        return Row(model.name, name, precision, error, served)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"[:200]
        return Row(model.name, name, precision, None, served, failure)


def export_all(scratch: Path, repository: Path, alternatives: Path, *, quick: bool) -> list[Row]:
    """Export and compare everything; write what is to be served into the two repositories."""
    rows: list[Row] = []
    models = random_stack(NARROW, CANVAS)
    jobs = [(model, item) for model in models for item in precisions_of(model, quick=quick)]
    first = {model.name: model for model in reversed(models)}
    for model, precision in tqdm(jobs, unit="graph", disable=None):
        name = f"{model.name}-{variant_of(model)}"
        tqdm.write(f"{time.strftime('%H:%M:%S')} {name} {precision}", file=sys.stderr)
        # float32 is what a CPU is quickest at; any other precision loads as well.
        choices = precisions_of(model, quick=quick)
        to_serve = Precision.FLOAT32 if Precision.FLOAT32 in choices else choices[0]
        is_first = first[model.name] is model
        served = (model.name if is_first else name) if precision is to_serve else ""
        rows.append(measure(model, precision, scratch, served))
        if served and rows[-1].error is not None:
            named = replace(model, name=served)
            target = repository if is_first else alternatives
            write_model(named, target, precision, exported=folder_of(model, scratch, precision))
    return rows


def precisions_of(model: StudioModel, *, quick: bool) -> tuple[Precision, ...]:
    """Choose the precisions to compare; one of them is what the embedded Triton serves."""
    return (Precision.FLOAT32,) if quick else model.precisions


def serve(
    repository: Path, alternatives: Path, python: Path, photo: Path, out: Path
) -> list[dict[str, object]]:
    """Run the serving half in the service's environment and return its findings."""
    command = [
        str(python), "-m", "export_scripts.studio.serve_check", "--repository", str(repository),
        "--alternatives", str(alternatives), "--photo", str(photo), "--borrow", "face_detector",
        "--variants", "--json", str(out),
    ]  # fmt: skip
    # Its table comes with ours; what it says while it runs goes through.
    subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    if not out.is_file():
        return [{"name": "serving", "holds": False, "detail": "ended early, see above"}]
    findings: list[dict[str, object]] = json.loads(out.read_text("utf-8"))
    return findings


def other_checks(repository: Path, python: Path, photo: Path) -> list[dict[str, object]]:
    """Run what has commands of its own: tests of the exporters, engine plans, deployment files."""
    here = [sys.executable, "-m"]
    there = [str(python), "-m"]
    commands = {
        # The service's fixtures and options are not for this environment.
        "exporters against other implementations": [
            *here, "pytest", "--noconftest", "-q", "-o", "addopts=", "tests/integration/studio",
        ],
        "plans, manifests, variants, deployment": [*there, "pytest", "-q", "tests/unit/studio"],
        "trtexec commands": [
            *there, "export_scripts.tensorrt.build", "--repository", str(repository), "--dry-run",
        ],
        "deployment files": [*there, "deploy.validation"],
    }  # fmt: skip
    path = os.pathsep.join(filter(None, (str(ROOT / "service"), os.environ.get("PYTHONPATH"))))
    findings: list[dict[str, object]] = []
    for name, command in commands.items():
        print(name, file=sys.stderr, flush=True)
        done = subprocess.run(
            command, cwd=ROOT, check=False, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": path, "HEADSHOT_EXAMPLE_PHOTO": str(photo)},
        )  # fmt: skip
        last = (done.stdout.strip() or done.stderr.strip() or "-").splitlines()[-1]
        findings.append({"name": name, "holds": done.returncode == 0, "detail": last[:140]})
    return findings


def print_tables(rows: list[Row], findings: list[dict[str, object]]) -> bool:
    """Print both tables; True when all holds."""
    served = {str(item["name"]): item for item in findings}
    print(f"\n{'model':<20} {'variant':<18} {'precision':<9} {'relative':>9} {'absolute':>9} "
          f"{'row':>7}  {'Triton':<7} {'contract':<8} {'end to end':<10}")  # fmt: skip
    good = True
    for row in rows:
        good &= row.holds
        if row.error is None:
            figures = f"FAILED {row.failure}"
        else:
            figures = (
                f"{row.error.relative:9.1e} {row.error.absolute:9.1e} {row.error.rows:7.0e}"
                f"{'' if row.holds else ' OFF'}"
            )
        loaded, contract, end = _served_marks(row, served)
        print(f"{row.model:<20} {row.variant:<18} {row.precision:<9} {figures}  {loaded:<7} "
              f"{contract:<8} {end:<10}")  # fmt: skip
    print()
    for item in findings:
        good &= bool(item["holds"])
        print(f"{'ok ' if item['holds'] else 'BAD'} {item['name']!s:<40} {item['detail']}")
    return good


def _served_marks(row: Row, served: dict[str, dict[str, object]]) -> tuple[str, str, str]:
    if not row.served:
        return "-", "-", "-"
    loaded = _mark(served.get(row.served))
    if f"{row.served} refused" in served:
        # The exporter makes it; the gateway has no map for it and says so at start.
        return loaded, f"no map {_mark(served[f'{row.served} refused'])}", "-"
    which = "" if row.served == row.model else ", alternatives"
    end = _mark(served.get(f"CreateHeadshot{which}"))
    # A random detector finds no face: CreateHeadshot runs with the compact one.
    return (
        loaded,
        _mark(served.get(f"contract{which}")),
        ("borrowed" if row.model == "face_detector" else end),
    )


def _mark(item: dict[str, object] | None) -> str:
    return "ok" if item and item["holds"] else "BAD"


def main(arguments: list[str] | None = None) -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one precision of each network")
    parser.add_argument("--keep", type=Path, help="leave the served repository here")
    parser.add_argument("--service-python", type=Path, default=ROOT / ".venv" / "bin" / "python")
    parser.add_argument("--photo", type=Path, help="a photo with one face")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="studio-check-")))
        repository = options.keep or scratch / "repository"
        alternatives = repository.with_name(f"{repository.name}-alternatives")
        rows = export_all(scratch, repository, alternatives, quick=options.quick)
        photo = options.photo or _example_photo(options.service_python)
        findings = serve(
            repository, alternatives, options.service_python, photo, scratch / "served.json"
        )
        findings += other_checks(repository, options.service_python, photo)
    good = print_tables(rows, findings)
    print(f"\n{'all holds' if good else 'NOT ALL HOLDS'}; "
          f"{(time.monotonic() - started) / 60:.1f} minutes")  # fmt: skip
    return 0 if good else 1


def _example_photo(python: Path) -> Path:
    shown = subprocess.run(
        [str(python), str(ROOT / "scripts" / "example_photo.py")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return Path(shown.stdout.strip())


if __name__ == "__main__":
    sys.exit(main())
