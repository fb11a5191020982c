"""Triton backend `openvino` on the CPU, for servers that lack NVIDIA's native one.

Parameters it honours, by the native backend's names: `CPU_THREADS_NUM` (or
`INFERENCE_NUM_THREADS`), `CPU_THROUGHPUT_STREAMS` (or `NUM_STREAMS`), `ENFORCE_BF16` (YES, NO),
`INFERENCE_PRECISION_HINT` (bf16, f32, f16). With neither precision parameter, a CPU with native
bfloat16 runs bfloat16.
"""

from __future__ import annotations

import numpy as np
import openvino as ov

from headshot.triton.backends.common import (
    Arrays,
    BatchingBackend,
    ModelSettings,
    Runtime,
    example_feeds,
)

_FREE_SIDE = 64  # height and width for the warm-up of networks of free image size


def precision_of(settings: ModelSettings, capabilities: list[str]) -> str:
    """Return the inference precision that parameters ask for, else the best native one."""
    hint = settings.parameter("INFERENCE_PRECISION_HINT")
    if hint:
        return hint
    enforced = settings.parameter("ENFORCE_BF16")
    if enforced:
        return "bf16" if enforced.upper() == "YES" else "f32"
    return "bf16" if "BF16" in capabilities else "f32"


class OpenVino(Runtime):
    """One compiled model with a dynamic batch axis."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        core = ov.Core()
        model = core.read_model(settings.path)
        if settings.max_batch > 0:
            # A bounded batch axis lets the compiler allocate once for the largest batch.
            shapes = {}
            for entry in model.inputs:
                shape = entry.get_partial_shape()
                shape[0] = ov.Dimension(1, settings.max_batch)
                shapes[entry] = shape
            model.reshape(shapes)
        streams = settings.parameter("CPU_THROUGHPUT_STREAMS", "NUM_STREAMS") or "1"
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision_of(
                    settings, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
                ),
                "INFERENCE_NUM_THREADS": settings.threads(
                    "CPU_THREADS_NUM", "INFERENCE_NUM_THREADS"
                ),
                "NUM_STREAMS": streams.upper() if streams.isalpha() else int(streams),
                # Several models share the cores; pinned threads of two models would share one.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request = self._compiled.create_infer_request()

    def infer(self, feeds: Arrays) -> Arrays:
        result = self._request.infer(feeds, share_inputs=True, share_outputs=True)
        return {name: result[name] for name in self._settings.outputs}

    def warm_up(self) -> None:
        shapes = {}
        types = {}
        for entry in self._compiled.inputs:
            shape = entry.get_partial_shape()
            shapes[entry.any_name] = [
                -1 if side.is_dynamic else side.get_length() for side in shape
            ]
            types[entry.any_name] = np.dtype(entry.get_element_type().to_dtype())
        for batch in range(1, max(1, self._settings.max_batch) + 1):
            self.infer(example_feeds(shapes, types, batch, _FREE_SIDE))


class TritonPythonModel(BatchingBackend):
    """What Triton's stub looks for."""

    def load(self, settings: ModelSettings) -> Runtime:
        return OpenVino(settings)
