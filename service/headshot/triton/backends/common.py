"""What the Python-based backends share: batching, splitting, cancellation, facts, wiping.

Tensors cross the stub's boundary through DLPack only. The stub was built for numpy 1, and with
numpy 2 its `as_numpy()` and `Tensor(name, array)` return wrong data without an error.

Inputs and outputs are somebody's photo, and Triton frees them in shared memory as they are. So each
answer is sent with the request's own sender, which returns when Triton has copied it, and then the
request's tensors are overwritten, on a thread: an instance that is still busy when the next request
comes may be forgotten for half a second (docs/decisions/triton.md).
"""

from __future__ import annotations

import abc
import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import monotonic_ns
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # put on the path by Triton's stub

from headshot.triton.backends.segment import protect, wipe
from headshot.triton.facts import FACTS_DIR_VARIABLE, FactsWriter

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class ModelSettings:
    """The part of config.pbtxt that a runtime needs.

    Attributes:
        name: model name, for messages.
        path: the model file.
        max_batch: most rows of one execution; 0 where the model has no batch axis.
        inputs: input names in config order.
        outputs: output names in config order.
        parameters: `parameters` of config.pbtxt as strings.
        instances: how many processes serve this model, for the share of the cores.
    """

    name: str
    path: Path
    max_batch: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, str]
    instances: int

    @classmethod
    def from_triton(cls, args: Mapping[str, str]) -> ModelSettings:
        """Read the settings from the arguments of `initialize`."""
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.onnx"
        groups = config.get("instance_group") or []
        return cls(
            name=args["model_name"],
            path=Path(args["model_repository"]) / args["model_version"] / filename,
            max_batch=int(config.get("max_batch_size", 0)),
            inputs=tuple(entry["name"] for entry in config["input"]),
            outputs=tuple(entry["name"] for entry in config["output"]),
            parameters={
                key: value["string_value"] for key, value in config.get("parameters", {}).items()
            },
            instances=max(1, sum(int(group.get("count", 1)) for group in groups)),
        )

    def parameter(self, *names: str) -> str | None:
        """Return the first of the parameters that is set and not empty."""
        for name in names:
            if self.parameters.get(name):
                return self.parameters[name]
        return None

    def threads(self, *names: str) -> int:
        """Return the compute threads of one instance: a parameter, else its share of the cores."""
        chosen = int(self.parameter(*names) or 0)
        return chosen or max(1, len(os.sched_getaffinity(0)) // self.instances)


class Runtime(abc.ABC):
    """One loaded network."""

    @abc.abstractmethod
    def infer(self, requests: Sequence[Arrays]) -> list[Arrays]:
        """Run requests of equal shapes together.

        Args:
            requests: inputs by name of each request, with any number of rows.

        Returns:
            Outputs by name of each request, which need to live only until the next call.
        """

    @abc.abstractmethod
    def warm_up(self) -> None:
        """Run once all that a request may need, so that none pays for a first time."""


class BatchingBackend(abc.ABC):
    """Base of `TritonPythonModel`: one inference for all requests that Triton hands over."""

    @abc.abstractmethod
    def load(self, settings: ModelSettings) -> Runtime:
        """Load the network."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load and warm up; Triton marks the model ready when this returns."""
        protect(Path("/proc/self/cmdline").read_bytes())
        self._settings = ModelSettings.from_triton(args)
        if not self._settings.path.is_file():
            raise pb_utils.TritonModelException(
                f"{self._settings.name}: no file {self._settings.path.name} in the version folder"
            )
        self._wiper = Wiper()
        self._runtime = self.load(self._settings)
        self._runtime.warm_up()
        directory = os.environ.get(FACTS_DIR_VARIABLE)
        self._facts = FactsWriter(Path(directory), self._settings.name) if directory else None

    def finalize(self) -> None:
        """Overwrite what is left; Triton unloads the model when this returns."""
        self._wiper.close()

    def execute(self, requests: Sequence[Any]) -> None:
        """Answer each request; cancelled ones are not computed. Their tensors are overwritten."""
        groups: dict[tuple[Any, ...], list[tuple[Any, Arrays]]] = {}
        used: list[np.ndarray] = []
        held: list[Any] = [*requests]
        try:
            for request in requests:
                feeds = {
                    name: np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))
                    for name in self._settings.inputs
                }
                used += feeds.values()
                if request.is_cancelled():
                    error = _failure("cancelled by the caller", pb_utils.TritonError.CANCELLED)
                    _send(request, error)
                    continue
                # The batcher merges equal shapes only; models of free image size are no exception.
                key = tuple(array.shape[1:] for array in feeds.values())
                groups.setdefault(key, []).append((request, feeds))
            for group in groups.values():
                self._run(group, used, held)
        finally:
            # Not before all is sent: an output may be a view of an input.
            self._wiper.wipe(used, held)

    def _run(
        self, group: Sequence[tuple[Any, Arrays]], used: list[np.ndarray], held: list[Any]
    ) -> None:
        rows = sum(next(iter(feeds.values())).shape[0] for _, feeds in group)
        started = monotonic_ns()
        try:
            answers = self._runtime.infer([feeds for _, feeds in group])
        except Exception as error:
            for request, _ in group:
                _send(request, _failure(f"{self._settings.name} failed: {error}"))
            return
        ended = monotonic_ns()
        for (request, _), outputs in zip(group, answers, strict=True):
            if self._facts is not None:
                self._facts.record(request.request_id(), started, ended, rows)
            self._answer(request, outputs, used, held)

    def _answer(
        self, request: Any, outputs: Arrays, used: list[np.ndarray], held: list[Any]
    ) -> None:
        """Send a request's outputs; what was sent is added to what is to be overwritten."""
        tensors = {}
        try:
            for name in self._settings.outputs:
                tensors[name] = pb_utils.Tensor.from_dlpack(name, _capsule(outputs[name]))
        except Exception as error:  # such as an empty picture, which is no DLPack tensor
            _send(request, _failure(f"{self._settings.name} failed: {error}"))
            return
        _send(request, pb_utils.InferenceResponse(output_tensors=list(tensors.values())))
        for name, tensor in tensors.items():
            sent = np.from_dlpack(tensor)
            # A sent tensor is a copy in shared memory, which is ours as long as the tensor is.
            if sent.ctypes.data != outputs[name].ctypes.data:
                used.append(sent)
                held.append(tensor)


class Wiper:
    """Overwrites arrays on a thread of its own, in order."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[list[np.ndarray], list[Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="wiper", daemon=True)
        self._thread.start()

    def wipe(self, arrays: list[np.ndarray], held: list[Any]) -> None:
        """Overwrite arrays soon; what holds their memory lives until then."""
        self._waiting.put((arrays, held))

    def close(self) -> None:
        """Overwrite what waits and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            arrays, held = item
            while arrays:
                wipe(arrays.pop())
            # Not kept until the next comes: the memory is Triton's again.
            del item, arrays, held


def _send(request: Any, response: Any) -> None:
    """Send the only answer of a request and wait until Triton has copied it."""
    try:
        request.get_response_sender().send(
            response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        )
    except Exception as error:  # that request's trouble, not that of those beside it
        pb_utils.Logger.log_error(f"an answer could not be sent: {error}")


def _capsule(array: np.ndarray) -> Any:
    """Return a DLPack capsule of the array for the stub to own.

    The stub renames a capsule that it consumed to a name that numpy's capsule destructor does not
    know, which then prints an error for each tensor. The stub itself calls the tensor's deleter,
    so the capsule needs no destructor.
    """
    capsule = array.__dlpack__()
    _set_destructor(capsule, None)
    return capsule


_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = [ctypes.py_object, ctypes.c_void_p]
_set_destructor.restype = ctypes.c_int


def _failure(message: str, code: Any = None) -> Any:
    error = pb_utils.TritonError(message) if code is None else pb_utils.TritonError(message, code)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)


def split_rows(feeds: Arrays) -> list[Arrays]:
    """Return each row of a request as a request of its own, without a copy."""
    rows = next(iter(feeds.values())).shape[0]
    if rows == 1:
        return [feeds]
    return [{name: array[row : row + 1] for name, array in feeds.items()} for row in range(rows)]


def join_rows(rows: Sequence[Arrays]) -> Arrays:
    """Return the arrays of several requests as one request's; one is not copied."""
    if len(rows) == 1:
        return rows[0]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
