"""How the studio exports are measured: bfloat16 as its units round, faces in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export environment has torch")

import ml_dtypes  # noqa: E402
import onnx  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export_scripts.studio import full_size, parity, stack  # noqa: E402
from export_scripts.studio.bfloat16 import run_rounded  # noqa: E402
from export_scripts.studio.export import precision_for  # noqa: E402
from export_scripts.studio.models import latent_models  # noqa: E402
from export_scripts.studio.onnx_export import (  # noqa: E402
    ExportError,
    check_operators,
    export,
    opset_of,
)
from export_scripts.studio.sizes import NARROW, vae_of  # noqa: E402
from export_scripts.studio.spec import Port, Precision, StudioModel  # noqa: E402


def narrow(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to bfloat16."""
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def graph_of(
    nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.generic]] | None = None
) -> onnx.ModelProto:
    """A graph from float32 x [4, 64] to y."""
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset_of(Precision.BFLOAT16))], ir_version=10
    )


def test_a_bfloat16_graph_is_run_with_every_result_rounded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weight = narrow((random.normal(size=(64, 64)) / 8).astype(np.float32))
    x = random.normal(size=(4, 64)).astype(np.float32)
    onnx.save(
        graph_of(
            [
                helper.make_node("Cast", ["x"], ["a"], to=TensorProto.BFLOAT16),
                helper.make_node("MatMul", ["a", "w"], ["b"]),
                helper.make_node("MatMul", ["b", "w"], ["c"]),
                helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
            ],
            {"w": weight.astype(ml_dtypes.bfloat16)},
        ),
        tmp_path / "model.onnx",
    )
    found = run_rounded(tmp_path / "model.onnx", {"x": x})[0]
    wanted = narrow(narrow(narrow(x) @ weight) @ weight)
    # Sums in another order may end on the other side of a rounding.
    assert np.mean(found == wanted) > 0.98
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() * 2**-7
    assert np.abs(found - x @ weight @ weight).max() > 2**-9


def faces(scores: list[float]) -> list[NDArray[np.float64]]:
    """Faces in one picture whose boxes and landmarks tell which they are by their score."""
    number = np.array(scores)
    boxes = number[:, None] * np.array([100.0, 200.0, 300.0, 400.0])
    landmarks = number[:, None, None] * np.arange(10.0).reshape(5, 2) * 50
    return [boxes[None], number[None], landmarks[None]]


def test_faces_are_compared_with_the_same_faces_wherever_they_rank() -> None:
    reference = faces([0.9, 0.8, 0.7001, 0.7, 0.3])
    found = faces([0.9, 0.8, 0.7, 0.7001, 0.3])
    found[1] = np.array([[0.9, 0.8, 0.7, 0.6999, 0.3]])
    boxes, scores, landmarks = parity.follow_order(reference, found)
    assert np.array_equal(boxes[0, :4], found[0][0, :4])
    assert np.array_equal(landmarks[0, :4], found[2][0, :4])
    assert np.isnan(boxes[0, 4]).all()  # no better than the last: it need not be on the list
    assert np.array_equal(scores, reference[1])


def test_a_face_elsewhere_shows_as_a_difference() -> None:
    reference, found = faces([0.9, 0.8, 0.7, 0.3]), faces([0.9, 0.8, 0.7, 0.3])
    found[0][0, 1] += 7
    boxes, _, _ = parity.follow_order(reference, found)
    assert np.nanmax(np.abs(found[0] - boxes)) == pytest.approx(7)


def test_scores_too_far_off_to_tell_faces_apart_are_an_error() -> None:
    reference, found = faces([0.52, 0.51, 0.5]), faces([0.52, 0.51, 0.5])
    found[1] = found[1] + 0.3
    with pytest.raises(ValueError, match="0% of the faces"):
        parity.follow_order(reference, found)


def test_a_graph_with_a_sequence_is_refused() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], axis=1),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=1),
    ]
    with pytest.raises(ExportError, match="ConcatFromSequence, SplitToSequence"):
        check_operators(graph_of(nodes), "toy")


def test_a_graph_whose_types_disagree_is_refused() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ExportError, match="toy"):
        check_operators(graph_of(nodes, {"w": np.zeros((64, 8), np.float32)}), "toy")


def test_a_bfloat16_encoder_has_neither_sequences_nor_computed_norm_scales(tmp_path: Path) -> None:
    torch.manual_seed(3)
    encoder, _ = latent_models(vae_of(NARROW), 64)
    path = export(encoder, tmp_path / "1", Precision.BFLOAT16)
    graph = onnx.load(path, load_external_data=False)
    constants = {tensor.name for tensor in graph.graph.initializer} | {
        node.output[0] for node in graph.graph.node if node.op_type == "Constant"
    }
    norms = [node for node in graph.graph.node if "Normalization" in node.op_type]
    assert len(norms) > 10
    assert all(set(node.input[1:]) <= constants for node in norms)
    assert parity.measure(encoder, path, Precision.BFLOAT16).relative < 0.05


def test_latents_come_in_bfloat16_unless_float16_is_asked_for_by_name() -> None:
    encoder, decoder = latent_models(vae_of(NARROW), 64)
    for model in (encoder, decoder):
        assert precision_for(model, Precision.FLOAT16) is Precision.BFLOAT16
        asked = precision_for(model, Precision.FLOAT16, float16_latents=True)
        assert asked is Precision.FLOAT16
        assert precision_for(model, Precision.FLOAT32) is Precision.FLOAT32


def test_a_control_file_of_ones_own_is_known_by_its_hash(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"weights")
    folder = stack.Folder(tmp_path)
    given = stack.Choice(control="segmentation", control_file=own)
    path, source = stack.control_source(folder, given)
    assert path == own
    assert folder.hashes((source,)) == stack.sha256_of(own)
    with pytest.raises(FileNotFoundError, match="--control-file"):
        stack.control_source(folder, stack.Choice(control="segmentation"))
    with pytest.raises(FileNotFoundError, match="headshot models pull controlnet-depth"):
        stack.control_source(folder, stack.Choice(control="depth"))


def test_a_picture_goes_through_encoder_steps_and_decoder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(3)
    networks = full_size.Networks(NARROW, 64)
    with torch.inference_mode(), full_size.FloatProducts():
        picture = full_size.run(networks, 64, steps=2, strength=0.5)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert capsys.readouterr().out.count("peak") == 4


def test_a_graph_whose_answer_is_no_number_is_infinitely_far(tmp_path: Path) -> None:
    # 0/0 for one value of 256: what float16 makes of an overflow.
    nodes = [
        helper.make_node("Div", ["x", "x"], ["one"]),
        helper.make_node("Mul", ["one", "x"], ["y"]),
    ]
    graph = graph_of(nodes)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(graph, tmp_path / "model.onnx")
    numbers = torch.linspace(1, 2, 4 * 64).reshape(4, 64)
    broken = numbers.clone()
    broken[3, 7] = 0
    ports = (Port("x", "FP32", (64,)),)
    for given, expected in ((numbers, 0.0), (broken, float("inf"))):
        model = StudioModel(
            "toy", torch.nn.Identity(), ports, ports, lambda _, x=given: (x,), {}, 4, 4,
            (Precision.FLOAT32,),
        )  # fmt: skip
        found = parity.measure(model, tmp_path / "model.onnx", Precision.FLOAT32)
        assert found.relative == pytest.approx(expected, abs=1e-6)
