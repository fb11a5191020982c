"""Nothing of an answer that differs from the contract is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from headshot.errors import ModelContractError
from headshot.triton.tensors import TensorSpec, add_inputs, batch_of, read_outputs
from tritonclient.grpc import service_pb2

_SPEC = {"scores": TensorSpec(np.dtype(np.float32), (2, 3))}


def _response(
    array: np.ndarray, *, name: str = "scores", datatype: str = "FP32"
) -> service_pb2.ModelInferResponse:
    response = service_pb2.ModelInferResponse(model_name="face_detector")
    response.outputs.add(name=name, datatype=datatype, shape=array.shape)
    response.raw_output_contents.append(array.tobytes())
    return response


def test_a_right_answer_is_a_read_only_view() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs = read_outputs(_response(array), _SPEC)
    np.testing.assert_array_equal(outputs["scores"], array)
    assert not outputs["scores"].flags.writeable


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(_response(np.zeros((1, 3), np.float32)), id="rows"),
        pytest.param(_response(np.zeros((2, 4), np.float32)), id="side"),
        pytest.param(_response(np.zeros(6, np.float32)), id="rank"),
        pytest.param(_response(np.zeros((2, 3), np.float16), datatype="FP16"), id="type"),
        pytest.param(_response(np.zeros((2, 3), np.float16)), id="too few bytes"),
        pytest.param(_response(np.zeros((2, 3), np.float64)), id="too many bytes"),
        pytest.param(_response(np.zeros((2, 3), np.float32), name="boxes"), id="name"),
        pytest.param(_response(np.zeros((2, 3), np.float32), datatype="WHAT"), id="unknown type"),
        pytest.param(_response(np.full((2, 3), np.nan, np.float32)), id="not a number"),
        pytest.param(_response(np.full((2, 3), np.inf, np.float32)), id="infinite"),
        pytest.param(service_pb2.ModelInferResponse(model_name="face_detector"), id="nothing"),
    ],
)
def test_a_wrong_answer_is_a_contract_error(response: service_pb2.ModelInferResponse) -> None:
    with pytest.raises(ModelContractError) as raised:
        read_outputs(response, _SPEC)
    assert raised.value.metadata["model"] == "face_detector"


def test_half_precision_infinity_is_found() -> None:
    spec = {"prediction": TensorSpec(np.dtype(np.float16), (1, 2))}
    array = np.array([[65504, np.inf]], np.float16)
    with pytest.raises(ModelContractError, match="finite"):
        read_outputs(_response(array, name="prediction", datatype="FP16"), spec)
    array[0, 1] = -65504
    read_outputs(_response(array, name="prediction", datatype="FP16"), spec)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_every_number_is_finite_and_nothing_else_is(kind: type[np.floating[Any]]) -> None:
    bits: Any = np.uint16 if kind is np.float16 else np.uint32
    # All numbers of half precision; of single precision those with the same leading bits.
    leading = np.arange(1 << 16, dtype=bits) << bits(16 * (kind is np.float32))
    datatype = "FP16" if kind is np.float16 else "FP32"
    every = leading.view(kind)
    spec = {"scores": TensorSpec(every.dtype, (-1,))}
    finite = every[np.isfinite(every)]
    read_outputs(_response(finite, datatype=datatype), spec)
    for wrong in every[~np.isfinite(every)][:: 1 << 6]:
        array = np.append(finite, [wrong])
        with pytest.raises(ModelContractError, match="finite"):
            read_outputs(_response(array, datatype=datatype), spec)


def test_inputs_are_written_as_raw_bytes_in_order() -> None:
    request = service_pb2.ModelInferRequest()
    first, second = np.zeros((1, 2), np.uint8), np.ones((1, 3), np.float16)
    add_inputs(request, {"first": first, "second": second})
    assert [(one.name, one.datatype, list(one.shape)) for one in request.inputs] == [
        ("first", "UINT8", [1, 2]),
        ("second", "FP16", [1, 3]),
    ]
    assert list(request.raw_input_contents) == [first.tobytes(), second.tobytes()]


def test_inputs_of_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="batch axis"):
        batch_of({"a": np.zeros((1, 2)), "b": np.zeros((2, 2))})


def test_a_dtype_that_triton_lacks_is_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        add_inputs(service_pb2.ModelInferRequest(), {"a": np.zeros((1, 1), np.complex64)})
