from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export_scripts.onnx_tools import (
    relative_error,
    run_onnxruntime,
    run_openvino,
    store_half,
    worst_error,
)


@pytest.fixture
def linear_graph() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(64, 32)).astype(np.float32), "weight")
    bias = numpy_helper.from_array(rng.normal(size=(32,)).astype(np.float32), "bias")
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        [weight, bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_half_storage_halves_large_weights_and_leaves_small_ones(
    linear_graph: onnx.ModelProto,
) -> None:
    stored = store_half(linear_graph)
    onnx.checker.check_model(stored, full_check=True)
    kinds = {t.name: t.data_type for t in stored.graph.initializer}
    assert kinds == {"weight__half": TensorProto.FLOAT16, "bias": TensorProto.FLOAT}


def test_half_storage_changes_the_result_by_rounding_only(linear_graph: onnx.ModelProto) -> None:
    feeds = {"x": np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)}
    exact = run_onnxruntime(linear_graph, feeds)
    stored = store_half(linear_graph)
    error = worst_error(run_onnxruntime(stored, feeds), exact)
    assert 0 < error < 1e-3
    assert worst_error(run_openvino(stored, feeds, "f32"), exact) < 1e-3


def test_a_value_that_is_not_finite_or_a_wrong_shape_is_an_infinite_error() -> None:
    reference = np.ones((2, 2), np.float32)
    broken = np.array([[1, np.nan], [1, 1]], np.float32)
    assert relative_error(broken, reference) == float("inf")
    assert relative_error(np.ones((2, 3), np.float32), reference) == float("inf")


def test_the_error_is_relative_to_the_reference() -> None:
    reference = np.full((4,), 10.0, np.float32)
    assert relative_error(reference + 1, reference) == pytest.approx(0.1)
