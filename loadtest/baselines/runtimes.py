"""The five networks in this process: OpenVINO at its best, or ONNX Runtime as it comes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
MODELS = ("face_detector", "identity_encoder", "denoiser", "matting", "upscaler")


class Runtime(Protocol):
    """Runs a model by name on arrays with a leading batch axis."""

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        ...


class OpenVinoRuntime:
    """Every model compiled once; each thread has its own request, streams share the cores.

    Args:
        repository: model_repository.
        streams: requests that run side by side.
    """

    def __init__(self, repository: Path, streams: int) -> None:
        import openvino as ov  # noqa: PLC0415 - the other runtime must not pay for it

        core = ov.Core()
        config = {"NUM_STREAMS": str(streams), "PERFORMANCE_HINT": "THROUGHPUT"}
        if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            config["INFERENCE_PRECISION_HINT"] = "bf16"
        self._compiled = {
            name: core.compile_model(str(repository / name / "1" / "model.onnx"), "CPU", config)
            for name in MODELS
        }
        self._own = threading.local()

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        requests: dict[str, Any] = self._own.__dict__.setdefault("requests", {})
        if model not in requests:
            requests[model] = self._compiled[model].create_infer_request()
        outputs = requests[model].infer(dict(inputs))
        return {port.any_name: np.array(value) for port, value in outputs.items()}


class OnnxRuntime:
    """ONNX Runtime with its default session options: what a user writes first."""

    def __init__(self, repository: Path) -> None:
        import onnxruntime as ort  # noqa: PLC0415

        self._sessions = {
            name: ort.InferenceSession(repository / name / "1" / "model.onnx") for name in MODELS
        }

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        session = self._sessions[model]
        wanted = {item.name: item for item in session.get_inputs()}
        given = {
            name: value.reshape(-1) if len(wanted[name].shape) == 1 else value
            for name, value in inputs.items()
        }
        names = [item.name for item in session.get_outputs()]
        return dict(zip(names, session.run(names, given), strict=True))
