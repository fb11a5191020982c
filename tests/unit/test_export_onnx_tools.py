from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export_scripts.onnx_tools import (
    compile_openvino,
    relative_error,
    run_onnxruntime,
    run_openvino,
    separate_biases,
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


@pytest.fixture
def convolution_graph() -> onnx.ModelProto:
    """Two convolutions, the second's bias through an Identity as exporters share constants."""
    rng = np.random.default_rng(2)
    shapes = {"first": (8, 3, 3, 3), "bias": (8,), "slope": (8, 1, 1), "second": (8, 8, 1, 1)}
    constants = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Identity", ["bias"], ["same"]),
        helper.make_node("Conv", ["x", "first", "bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["a", "slope"], ["b"]),
        helper.make_node("Conv", ["b", "second", "same"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_biases_beside_the_convolutions_leave_the_function_as_it_is(
    convolution_graph: onnx.ModelProto,
) -> None:
    apart = separate_biases(convolution_graph)
    onnx.checker.check_model(apart, full_check=True)
    kinds = [node.op_type for node in apart.graph.node]
    assert kinds == ["Conv", "Add", "PRelu", "Conv", "Add"]
    assert all(len(node.input) == 2 for node in apart.graph.node)
    feeds = {"x": np.random.default_rng(3).normal(size=(2, 3, 6, 6)).astype(np.float32)}
    exact = run_onnxruntime(convolution_graph, feeds)
    assert worst_error(run_onnxruntime(apart, feeds), exact) < 1e-6
    assert worst_error(run_openvino(apart, feeds, "f32"), exact) < 1e-5
    shapes = {tuple(t.dims) for t in apart.graph.initializer if t.name not in ("first", "second")}
    assert shapes == {(1, 8, 1, 1)}


def test_openvino_computes_a_bias_beside_a_convolution_inside_it(
    convolution_graph: onnx.ModelProto,
) -> None:
    def passes(graph: onnx.ModelProto) -> list[str]:
        ops = compile_openvino(graph, "f32").get_runtime_model().get_ops()
        kinds = [str(op.get_rt_info()["layerType"].astype(str)) for op in ops]
        return [kind for kind in kinds if kind in ("Eltwise", "Subgraph")]

    assert passes(convolution_graph)
    assert not passes(separate_biases(convolution_graph))
