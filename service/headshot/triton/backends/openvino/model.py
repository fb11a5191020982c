"""Triton backend `openvino` on the CPU, for servers that lack NVIDIA's native one.

Each row of a batch is an inference of its own, and the rows of one execution run side by side on
streams of one or more threads each; a row that is alone gets all threads. That is no slower than a
dynamic batch axis, and makes a row's result independent of the rows beside it
(docs/decisions/triton.md). Some kernels round differently on another number of threads: a network
that shows this when it is loaded runs its rows one after the other.

Parameters it honours, by the native backend's names: `CPU_THREADS_NUM` (or
`INFERENCE_NUM_THREADS`), `CPU_THROUGHPUT_STREAMS` (or `NUM_STREAMS`; 1 runs row after row and
keeps one copy of the weights), `ENFORCE_BF16` (YES, NO), `INFERENCE_PRECISION_HINT` (bf16, f32,
f16). With neither precision parameter, a CPU with native bfloat16 runs bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov

from headshot.triton.backends.common import (
    Arrays,
    BatchingBackend,
    ModelSettings,
    Runtime,
    join_rows,
    split_rows,
)

_FREE_SIDE = 64  # height and width for the warm-up of networks of free image size


def precision_of(settings: ModelSettings, capabilities: Sequence[str]) -> str:
    """Return the inference precision that parameters ask for, else the best native one."""
    hint = settings.parameter("INFERENCE_PRECISION_HINT")
    if hint:
        return hint
    enforced = settings.parameter("ENFORCE_BF16")
    if enforced:
        return "bf16" if enforced.upper() == "YES" else "f32"
    return "bf16" if "BF16" in capabilities else "f32"


class _Lane:
    """A compiled network of one row and requests for it that may run at the same time."""

    def __init__(self, compiled: ov.CompiledModel, requests: int) -> None:
        self._compiled = compiled
        self._requests = [compiled.create_infer_request() for _ in range(requests)]
        self._outputs = {port.any_name: port for port in compiled.outputs}

    def widen(self, requests: int) -> None:
        """Let up to `requests` rows be run in one call."""
        missing = requests - len(self._requests)
        self._requests += [self._compiled.create_infer_request() for _ in range(missing)]

    def run(self, rows: Sequence[Arrays]) -> list[Arrays]:
        """Run the rows on all streams; outputs live in the requests until their next run."""
        busy = self._requests[: len(rows)]
        for request, row in zip(busy, rows, strict=True):
            request.start_async(row, share_inputs=True)
        for request in busy:
            request.wait()
        return [
            {name: request.get_tensor(port).data for name, port in self._outputs.items()}
            for request in busy
        ]


class _Network:
    """A compiled network: rows in parallel, and the odd row on all threads."""

    def __init__(
        self, core: ov.Core, model: ov.Model, options: dict[str, Any], streams: int, rows: int
    ) -> None:
        def compiled(count: int) -> ov.CompiledModel:
            return core.compile_model(model, "CPU", {**options, "NUM_STREAMS": count})

        self._streams = streams
        self._rows = rows
        alone = rows if streams == 1 else max(1, streams // 2)
        self._alone = _Lane(compiled(1), alone)
        self._parallel = _Lane(compiled(streams), rows) if streams > 1 else None

    def serialise(self) -> None:
        """From now on, run row after row on all threads."""
        self._parallel = None
        self._alone.widen(self._rows)

    def agrees(self, row: Arrays) -> bool:
        """Tell whether a row gives the same bits on its own and among others."""
        if self._parallel is None:
            return True
        alone = self._alone.run([row])[0]
        others = self._parallel.run([row] * self._streams)
        return all(
            np.array_equal(alone[name], other[name], equal_nan=True)
            for other in others
            for name in alone
        )

    def run(self, rows: Sequence[Arrays]) -> list[Arrays]:
        if self._parallel is None:
            return self._alone.run(rows)
        # A round on all streams takes as long as `streams` rows one after the other would, so a
        # last round that would leave half of them idle is better done row after row.
        odd = len(rows) % self._streams
        odd = odd if odd <= self._streams // 2 else 0
        even = len(rows) - odd
        results = self._parallel.run(rows[:even]) if even else []
        return [*results, *(self._alone.run(rows[even:]) if odd else [])]


class OpenVino(Runtime):
    """A network with a batch axis, run row by row on parallel streams."""

    def __init__(self, settings: ModelSettings) -> None:
        core = ov.Core()
        self._model = core.read_model(settings.path)
        shapes = {}
        for port in self._model.inputs:
            shape = port.partial_shape
            shape[0] = 1
            shapes[port] = shape
        # Images of free size stay free: kernels for a fixed size were no faster, and round
        # differently, so that a picture would depend on what sizes came before it.
        self._model.reshape(shapes)
        threads = settings.threads("CPU_THREADS_NUM", "INFERENCE_NUM_THREADS")
        chosen = settings.parameter("CPU_THROUGHPUT_STREAMS", "NUM_STREAMS") or "auto"
        self._rows = max(1, settings.max_batch)
        self._streams = max(1, int(chosen)) if chosen.isdigit() else min(threads, self._rows)
        options = {
            "INFERENCE_PRECISION_HINT": precision_of(
                settings, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            ),
            "INFERENCE_NUM_THREADS": threads,
            # Several models share the cores; pinned threads of two models would share one.
            "ENABLE_CPU_PINNING": False,
        }
        self._network = _Network(core, self._model, options, self._streams, self._rows)
        if not chosen.isdigit() and not self._network.agrees(self._example()):
            self._network.serialise()

    def infer(self, requests: Sequence[Arrays]) -> list[Arrays]:
        rows = [row for feeds in requests for row in split_rows(feeds)]
        results = iter(self._network.run(rows))
        return [
            join_rows([next(results) for _ in range(next(iter(feeds.values())).shape[0])])
            for feeds in requests
        ]

    def warm_up(self) -> None:
        row = self._example()
        for rows in {1, self._streams}:  # memory is per stream: this allocates all of it
            self.infer([row] * rows)

    def _example(self) -> Arrays:
        """Return one row of seeded random inputs: bytes, or numbers in [0, 1)."""
        random = np.random.default_rng(0)
        row = {}
        for port in self._model.inputs:
            sides = [
                _FREE_SIDE if side.is_dynamic else side.get_length()
                for side in port.partial_shape[1:]
            ]
            dtype = np.dtype(port.element_type.to_dtype())
            numbers = random.random([1, *sides], np.float32)
            row[port.any_name] = (numbers * (255 if dtype.kind in "ui" else 1)).astype(dtype)
        return row


class TritonPythonModel(BatchingBackend):
    """What Triton's stub looks for."""

    def load(self, settings: ModelSettings) -> Runtime:
        return OpenVino(settings)
