"""Triton backend `onnxruntime` on the CPU, for servers that lack NVIDIA's native one.

Parameters it honours are those of the native backend: `intra_op_thread_count`,
`inter_op_thread_count`, `execution_mode`; and `optimization.graph.level` is left at its default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from headshot.triton.backends.common import (
    Arrays,
    BatchingBackend,
    ModelSettings,
    Runtime,
    join_rows,
)

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_FREE_SIDE = 64  # height and width for the warm-up of networks of free image size


class OnnxRuntime(Runtime):
    """One InferenceSession on the CPU."""

    def __init__(self, settings: ModelSettings) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.threads("intra_op_thread_count")
        options.inter_op_num_threads = int(settings.parameter("inter_op_thread_count") or 1)
        if settings.parameter("execution_mode") == "1":
            options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        # Spinning threads of one model take the cores from the others and from the gateway.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            str(settings.path), options, providers=["CPUExecutionProvider"]
        )
        self._settings = settings

    def infer(self, requests: Sequence[Arrays]) -> list[Arrays]:
        feeds = join_rows(requests)
        names = self._settings.outputs
        outputs = dict(zip(names, self._session.run(list(names), feeds), strict=True))
        answers = []
        begin = 0
        for request in requests:
            end = begin + next(iter(request.values())).shape[0]
            answers.append({name: array[begin:end] for name, array in outputs.items()})
            begin = end
        return answers

    def warm_up(self) -> None:
        row = {}
        for entry in self._session.get_inputs():
            sides = [side if isinstance(side, int) else _FREE_SIDE for side in entry.shape[1:]]
            row[entry.name] = np.zeros([1, *sides], _TYPES[entry.type])
        for rows in {1, max(1, self._settings.max_batch)}:
            self.infer([row] * rows)


class TritonPythonModel(BatchingBackend):
    """What Triton's stub looks for."""

    def load(self, settings: ModelSettings) -> Runtime:
        return OnnxRuntime(settings)
