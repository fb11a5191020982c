"""Everything of the studio profile that can be proven without its weights and without a GPU.

    python -m export_scripts.studio.check [--quick] [--keep FOLDER]

Exports every network with seeded random weights at reduced width in every precision it holds,
compares each graph with torch, then serves the stack with the embedded Triton: load, contract,
bit-equality with the runtime, CreateHeadshot, batching, cancellation. Ends with a table; exit
status 1 when a line does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
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
# Of these the float16 graph alone is compared: it is what a GPU serves, and each export is slow.
_ONE_PRECISION = {"denoiser+pose"}


@dataclass(frozen=True)
class Row:
    """One exported graph and how far it is from torch."""

    model: str
    variant: str
    precision: Precision
    error: parity.Parity | None
    failure: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is within the precision's tolerance and rows are independent."""
        if self.error is None:
            return False
        # OpenVINO may order sums of a batch differently from those of one row.
        rows = 0.0 if self.error.runtime == "onnxruntime" else self.error.absolute
        return self.error.relative <= parity.TOLERANCE[self.precision] and self.error.rows <= max(
            rows, 1e-6
        )


def variant_of(model: StudioModel) -> str:
    """Name what fills a model, for the table."""
    for key in ("detector", "recogniser", "matte", "upscaler", "control", "identity_input"):
        if key in model.parameters:
            return model.parameters[key]
    return "-"


def measure(model: StudioModel, precision: Precision, scratch: Path) -> Row:
    """Export one graph and compare it with torch."""
    name = variant_of(model)
    try:
        path = export(model, scratch / f"{model.name}-{name}-{precision}", precision)
        return Row(model.name, name, precision, parity.measure(model, path, precision))
    except Exception as error:
        return Row(model.name, name, precision, None, f"{type(error).__name__}: {error}"[:200])


def precisions_of(model: StudioModel, *, quick: bool) -> tuple[Precision, ...]:
    """Choose the precisions to compare."""
    if quick or f"{model.name}+{variant_of(model)}" in _ONE_PRECISION:
        return model.precisions[:1]
    return model.precisions


def serve(repository: Path, python: Path, photo: Path, out: Path) -> list[dict[str, object]]:
    """Run the serving half in the service's environment and return its findings."""
    command = [
        str(python), "-m", "export_scripts.studio.serve_check", "--repository", str(repository),
        "--photo", str(photo), "--borrow", "face_detector", "--variants", "--json", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if not out.is_file():
        return [{"name": "serving", "holds": False, "detail": done.stderr[-400:]}]
    findings: list[dict[str, object]] = json.loads(out.read_text("utf-8"))
    return findings


def other_checks(repository: Path, python: Path) -> list[dict[str, object]]:
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
        done = subprocess.run(
            command, cwd=ROOT, check=False, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
        last = (done.stdout.strip() or done.stderr.strip() or "-").splitlines()[-1]
        findings.append({"name": name, "holds": done.returncode == 0, "detail": last[:140]})
    return findings


def print_tables(rows: list[Row], findings: list[dict[str, object]]) -> bool:
    """Print both tables; True when all holds."""
    served = {str(item["name"]): item for item in findings}
    contract = served.get("contract", {"holds": False})
    end = served.get("CreateHeadshot", {"holds": False, "detail": "not run"})
    print(f"\n{'model':<20} {'variant':<18} {'precision':<9} {'relative':>9} {'absolute':>9} "
          f"{'row':>7}  {'Triton':<7} {'contract':<8} {'end to end':<10}")  # fmt: skip
    good = True
    seen: set[str] = set()
    for row in rows:
        good &= row.holds
        # The first variant of a model is the one that was served.
        first = row.model not in seen
        seen.add(row.model)
        loaded = _mark(served.get(row.model)) if first else "-"
        tail = (_mark(contract), _mark(end)) if first else ("-", "-")
        if row.error is None:
            figures = f"FAILED {row.failure}"
        else:
            figures = (
                f"{row.error.relative:9.1e} {row.error.absolute:9.1e} {row.error.rows:7.0e}"
                f"{'' if row.holds else ' OFF'}"
            )
        print(f"{row.model:<20} {row.variant:<18} {row.precision:<9} {figures}  {loaded:<7} "
              f"{tail[0]:<8} {tail[1]:<10}")  # fmt: skip
    print()
    for item in findings:
        good &= bool(item["holds"])
        print(f"{'ok ' if item['holds'] else 'BAD'} {item['name']!s:<40} {item['detail']}")
    return good


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
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="studio-check-")))
        repository = options.keep or scratch / "repository"
        rows = []
        written: set[str] = set()
        for model in tqdm(random_stack(NARROW, CANVAS), unit="network", disable=None):
            for precision in precisions_of(model, quick=options.quick):
                rows.append(measure(model, precision, scratch))
                tqdm.write(f"{rows[-1].model} {rows[-1].variant} {precision}", file=sys.stderr)
            if model.name not in written:
                written.add(model.name)
                cpu = Precision.FLOAT32
                write_model(model, repository, cpu)
        photo = options.photo or _example_photo(options.service_python)
        findings = serve(repository, options.service_python, photo, scratch / "served.json")
        findings += other_checks(repository, options.service_python)
    return 0 if print_tables(rows, findings) else 1


def _example_photo(python: Path) -> Path:
    shown = subprocess.run(
        [str(python), str(ROOT / "scripts" / "example_photo.py")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return Path(shown.stdout.strip())


if __name__ == "__main__":
    sys.exit(main())
