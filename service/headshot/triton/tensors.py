"""Tensors of one request and answer, as Triton's protocol writes them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from headshot.errors import ModelContractError

Array = NDArray[Any]

_NAMES: dict[np.dtype[Any], str] = {
    np.dtype(np.uint8): "UINT8",
    np.dtype(np.int8): "INT8",
    np.dtype(np.int32): "INT32",
    np.dtype(np.int64): "INT64",
    np.dtype(np.float16): "FP16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.object_): "BYTES",
}
_DTYPES = {"STRING": np.dtype(np.object_), **{name: dtype for dtype, name in _NAMES.items()}}
# Infinity and NaN have all bits of the exponent set. As integers these are the largest of those
# without the sign's bit, and, read without sign, the largest of those with it: the least of each.
_NOT_FINITE: dict[np.dtype[Any], tuple[type[np.integer[Any]], int, type[np.integer[Any]], int]] = {
    np.dtype(np.float16): (np.int16, 0x7C00, np.uint16, 0xFC00),
    np.dtype(np.float32): (np.int32, 0x7F800000, np.uint32, 0xFF800000),
}


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of a tensor.

    Attributes:
        dtype: numpy dtype.
        shape: all axes with the batch axis first; -1 where any length is right.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def matches(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this dtype and shape fits."""
        return (
            dtype == self.dtype
            and len(shape) == len(self.shape)
            and all(want in (-1, got) for want, got in zip(self.shape, shape, strict=True))
        )


# From a request's inputs to what each output must be.
OutputContract = Callable[[Mapping[str, Array]], Mapping[str, TensorSpec]]


def datatype_of(array: Array) -> str:
    """Return Triton's name of the array's dtype."""
    name = _NAMES.get(array.dtype)
    if name is None or array.dtype.hasobject:
        raise TypeError(f"tensors of {array.dtype} cannot be sent")
    return name


def datatype_name(dtype: np.dtype[Any]) -> str:
    """Return Triton's name of a dtype that `dtype_of` knows."""
    return _NAMES[dtype]


def dtype_of(datatype: str) -> np.dtype[Any]:
    """Return the numpy dtype of Triton's name for it.

    Raises:
        ModelContractError: a datatype that no model of this service may have.
    """
    try:
        return _DTYPES[datatype.removeprefix("TYPE_")]
    except KeyError:
        raise ModelContractError(f"datatype {datatype} is not supported") from None


def batch_of(inputs: Mapping[str, Array]) -> int:
    """Return the rows of a request: the length of every input's first axis."""
    rows = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    if len(rows) != 1 or 0 in rows:
        raise ValueError(f"inputs differ in their batch axis: {sorted(rows)}")
    return rows.pop()


def add_inputs(
    request: service_pb2.ModelInferRequest,
    inputs: Mapping[str, Array],
    elsewhere: Container[str] = (),
) -> None:
    """Write the arrays into the request, as raw bytes unless their bytes are `elsewhere`."""
    for name, array in inputs.items():
        tensor = request.inputs.add()
        tensor.name = name
        tensor.datatype = datatype_of(array)
        tensor.shape.extend(array.shape)
        if name not in elsewhere:
            request.raw_input_contents.append(array.tobytes())


def read_outputs(
    response: service_pb2.ModelInferResponse,
    expected: Mapping[str, TensorSpec],
    views: Mapping[str, memoryview] | None = None,
) -> dict[str, Array]:
    """Return the outputs as read-only views, checked in name, dtype, shape, size and finiteness.

    Args:
        response: Triton's answer.
        expected: what each output must be.
        views: buffers of outputs that came through shared memory, by output name.

    Raises:
        ModelContractError: the answer is not what the contract says; nothing of it is used.
    """
    model = response.model_name
    raw = iter(response.raw_output_contents)
    outputs: dict[str, Array] = {}
    for tensor in response.outputs:
        shared = views.get(tensor.name) if views else None
        content = shared if shared is not None else next(raw, b"")
        spec = expected.get(tensor.name)
        if spec is None:
            continue
        shape = tuple(tensor.shape)
        dtype = _DTYPES.get(tensor.datatype, np.dtype(np.object_))
        if not spec.matches(dtype, shape):
            raise _mismatch(model, tensor.name, spec, f"{tensor.datatype} {list(shape)}")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if len(content) < size or (shared is None and len(content) != size):
            raise _mismatch(model, tensor.name, spec, f"{len(content)} bytes")
        array = np.frombuffer(content, dtype, size // dtype.itemsize).reshape(shape)
        _check_finite(model, tensor.name, array)
        outputs[tensor.name] = array
    for name in expected.keys() - outputs.keys():
        raise _mismatch(model, name, expected[name], "nothing")
    return outputs


def _check_finite(model: str, name: str, array: Array) -> None:
    if array.dtype in _NOT_FINITE and array.size:
        signed, infinity, unsigned, minus_infinity = _NOT_FINITE[array.dtype]
        flat = array.reshape(-1)
        # Two passes without a temporary array: a third of the time of a mask.
        if flat.view(signed).max() >= infinity or flat.view(unsigned).max() >= minus_infinity:
            raise ModelContractError(
                f"{model}: {name} holds values that are not finite",
                metadata={"model": model, "field": name},
            )


def _mismatch(model: str, name: str, spec: TensorSpec, found: str) -> ModelContractError:
    expected = f"{_NAMES[spec.dtype]} {list(spec.shape)}"
    return ModelContractError(
        f"{model}: output {name} should be {expected}, it is {found}",
        metadata={"model": model, "field": name, "expected": expected, "found": found},
    )
