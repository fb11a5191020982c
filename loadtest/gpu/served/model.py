"""The measured denoiser in Triton's Python backend; `loadtest.gpu.repository` configures it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import triton_python_backend_utils as pb_utils  # put on the path by Triton's stub


class TritonPythonModel:
    """Builds the network, captures one graph for each latent side, answers batches."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Build and capture; Triton marks the model ready when this returns."""
        config = json.loads(args["model_config"])
        wanted = {key: value["string_value"] for key, value in config["parameters"].items()}
        # The stub ignores PYTHONPATH; its own standard library stays first.
        sys.path += [path for path in wanted["path"].split(os.pathsep) if path not in sys.path]
        import torch
        from torch.utils import dlpack

        from loadtest.gpu.line import Line
        from loadtest.gpu.network import build
        from loadtest.gpu.steps import Steps

        self._inputs = [entry["name"] for entry in config["input"]]
        self._torch, self._dlpack = torch, dlpack
        device = wanted["device"]
        network = build(device, narrow=wanted["narrow"] == "1", tuned=wanted["tuned"] == "1")
        steps, rows = Steps(network, device), int(config["max_batch_size"])
        sides = [int(side) for side in wanted["latents"].split(",")]
        self._lines = {side: Line(steps.step(side, rows)) for side in sides}

    def execute(self, requests: Sequence[Any]) -> None:
        """Enqueue the requests, which have one shape; a thread answers them."""
        try:
            parts = [self._rows(request) for request in requests]
            sizes = [part["sample"].shape[0] for part in parts]
            line = self._lines[parts[0]["sample"].shape[-1]]
            line.submit(parts, lambda prediction: self._answer(requests, sizes, prediction))
        except Exception as error:
            failure = pb_utils.TritonError(f"{type(error).__name__}: {error}")
            for request in requests:
                _send(request, pb_utils.InferenceResponse(output_tensors=[], error=failure))

    def finalize(self) -> None:
        """Answer what is under way; Triton unloads the model when this returns."""
        for line in self._lines.values():
            line.close()

    def _rows(self, request: Any) -> dict[str, Any]:
        """Return a request's tensors without a copy; scalars come as [rows, 1]."""
        rows = {}
        for name in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            rows[name] = self._dlpack.from_dlpack(tensor.to_dlpack())
            if name in ("timestep", "ip_scale"):
                rows[name] = rows[name].reshape(-1)
        return rows

    def _answer(self, requests: Sequence[Any], sizes: list[int], prediction: Any) -> None:
        pieces = self._torch.split(prediction, sizes)
        for request, piece in zip(requests, pieces, strict=True):
            capsule = self._dlpack.to_dlpack(piece.clone())
            tensor = pb_utils.Tensor.from_dlpack("prediction", capsule)
            _send(request, pb_utils.InferenceResponse(output_tensors=[tensor]))


def _send(request: Any, response: Any) -> None:
    request.get_response_sender().send(
        response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    )
