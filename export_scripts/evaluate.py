"""All figures of the compact models as one table, and a benchmark.

    python -m export_scripts.evaluate --data DIR --teachers DIR [--model NAME ...] [--json FILE]
        [--repository DIR] [--no-benchmark]
    python -m export_scripts.evaluate --benchmark-only [--model NAME ...]

``--data`` holds the git snapshots in ``snapshots/OWNER+NAME/repo`` and what the preparation scripts
of ``export_scripts.datasets`` wrote; ``--teachers`` the teachers' files, which identity_encoder and
upscaler do without. A model whose evaluation, weights or data are missing is reported as such and
does not stop the others. The exit status says whether everything was measured, not whether every
bar was reached.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from export_scripts.metrics import Metric, aligned, table
from export_scripts.onnx_tools import compile_openvino
from export_scripts.registry import COMPACT, ROOT, Model, model

CANVAS = 640
"""Pixels of a side where a graph leaves height and width open."""
BENCHMARK_THREADS = 2
BARS_MS = {
    "face_detector": 15.0,
    "identity_encoder": 8.0,
    "denoiser": 100.0,
    "matting": 60.0,
    "upscaler": 350.0,
}
"""Milliseconds for a batch of one on two cores with AMX, in bfloat16."""
WITHOUT_TEACHERS = frozenset({"identity_encoder", "upscaler"})
"""Models whose evaluation compares with nothing but the data."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds for one row, median of ``runs``; ``bar_ms`` holds on cores with AMX.

    ``cpu_milliseconds`` is processor time over all threads: on a busy machine, where the wall
    clock measures the neighbours, it still says what the model costs.
    """

    model: str
    milliseconds: float
    cpu_milliseconds: float
    runs: int
    bar_ms: float


@dataclass(frozen=True)
class Machine:
    """What the benchmark ran on."""

    processor: str
    cores: int
    amx: bool
    avx512_bf16: bool
    load: float

    def __str__(self) -> str:
        amx = "with AMX" if self.amx else "without AMX"
        bf16 = "with AVX512_BF16" if self.avx512_bf16 else "without AVX512_BF16"
        return (
            f"{self.processor}, {self.cores} cores, {amx}, {bf16}; "
            f"load {self.load:.1f} before the benchmark"
        )


def this_machine() -> Machine:
    """Processor name and the instructions that bfloat16 speed depends on."""
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "flags":
                flags = set(value.split())
                break
    name = str(ov.Core().get_property("CPU", "FULL_DEVICE_NAME")).strip()
    cores = os.cpu_count() or 1
    return Machine(name, cores, "amx_bf16" in flags, "avx512_bf16" in flags, os.getloadavg()[0])


def _random_input(port: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = [
        d.get_length() if d.is_static else (1 if axis == 0 else CANVAS)
        for axis, d in enumerate(port.get_partial_shape())
    ]
    dtype = np.dtype(port.get_element_type().to_dtype())
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if len(shape) <= 2:
        # Time steps and unit vectors.
        values = rng.random(shape)
        return (values / max(1.0, float(np.linalg.norm(values)))).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def benchmark(entry: Model, repository: Path, seconds: float = 3.0) -> Timing:
    """Median time of one row on two threads in bfloat16, as it is served, after a warm-up."""
    compiled = compile_openvino(
        repository / entry.name / "1" / "model.onnx", "bf16", BENCHMARK_THREADS, one_row=True
    )
    rng = np.random.default_rng(20261121)
    feeds = [_random_input(port, rng) for port in compiled.inputs]
    request = compiled.create_infer_request()
    for _ in range(3):
        request.infer(feeds)
    times: list[float] = []
    processor: list[float] = []
    while sum(times) < seconds and len(times) < 200:
        start, busy = time.perf_counter(), time.process_time()
        request.infer(feeds)
        times.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
    return Timing(
        entry.name,
        1000 * float(np.median(times)),
        1000 * float(np.median(processor)),
        len(times),
        BARS_MS.get(entry.name, 0.0),
    )


def timing_table(timings: Sequence[Timing]) -> str:
    """The benchmark as text."""
    rows = [("model", "ms", "processor ms", "runs", "bar with AMX")]
    rows += [
        (
            t.model,
            f"{t.milliseconds:.1f}",
            f"{t.cpu_milliseconds:.1f}",
            str(t.runs),
            f"<= {t.bar_ms:.0f} ms",
        )
        for t in timings
    ]
    return aligned(rows)


def measure(
    entry: Model, data: Path, teachers: Path, repository: Path
) -> tuple[list[Metric], str | None]:
    """A model's metrics, or why there are none."""
    if not (repository / entry.name / "1" / "model.onnx").exists():
        return [], "no model.onnx in the repository: run export_scripts.export first"
    try:
        evaluate = entry.evaluate()
    except ModuleNotFoundError as missing:
        return [], f"no evaluation: {missing}"
    try:
        return evaluate(data, teachers, repository), None
    except FileNotFoundError as missing:
        return [], f"data is missing: {missing}"
    except Exception as failure:  # one model's evaluation must not hide the others
        traceback.print_exc()
        return [], f"failed: {failure!r}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module; 0 when every model was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="git snapshots and prepared data")
    parser.add_argument("--teachers", type=Path, help="the teachers' files")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--model", nargs="*", default=[], help="only these models")
    parser.add_argument("--json", type=Path, help="write everything there as well")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--no-benchmark", action="store_true")
    which.add_argument("--benchmark-only", action="store_true")
    chosen = parser.parse_args(arguments)
    entries = [model(n) for n in chosen.model] if chosen.model else list(COMPACT)
    if not chosen.benchmark_only:
        needing = [entry.name for entry in entries if entry.name not in WITHOUT_TEACHERS]
        if chosen.data is None:
            parser.error("--data DIR is missing; --benchmark-only alone does without it")
        if chosen.teachers is None and needing:
            parser.error(f"--teachers DIR is missing, which is needed for {', '.join(needing)}")

    metrics: list[Metric] = []
    missing: dict[str, str] = {}
    if not chosen.benchmark_only:
        for entry in entries:
            measured, reason = measure(
                entry, chosen.data, chosen.teachers or chosen.data, chosen.repository
            )
            metrics += measured
            if reason is not None:
                missing[entry.name] = reason
        if metrics:
            print(table(metrics))
        for name, reason in missing.items():
            print(f"{name}: {reason}")

    timings: list[Timing] = []
    machine = this_machine()
    if not chosen.no_benchmark:
        timings = [
            benchmark(entry, chosen.repository)
            for entry in entries
            if (chosen.repository / entry.name / "1" / "model.onnx").exists()
        ]
        print(f"\nOpenVINO bf16, batch 1, {BENCHMARK_THREADS} threads, on {machine}")
        print(timing_table(timings))

    if chosen.json:
        content = {
            "metrics": [m.as_json() for m in metrics],
            "missing": missing,
            "benchmark": [asdict(t) for t in timings],
            "machine": asdict(machine),
        }
        chosen.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
