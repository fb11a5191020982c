"""Published ONNX files in our graphs: decoding, batches, float16, and a real detector."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export environment has torch")

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

from export_scripts.studio import models  # noqa: E402
from export_scripts.studio.bfloat16 import run_rounded  # noqa: E402
from export_scripts.studio.half import to_half  # noqa: E402
from export_scripts.studio.networks import detectors, recognisers  # noqa: E402
from export_scripts.studio.onnx_export import ExportError, check_ports, export  # noqa: E402
from export_scripts.studio.parity import measure, run_onnx  # noqa: E402
from export_scripts.studio.spec import Precision  # noqa: E402
from export_scripts.studio.wrap import (  # noqa: E402
    Published,
    WrapError,
    as_published,
    free_batch,
    read_published,
)

ROOT = Path(__file__).parents[3]
TEACHER = (
    Path(os.environ.get("HEADSHOT_TEACHERS", ROOT.parent / "shared" / "teachers"))
    / "yunet"
    / "yunet_n_dynamic.onnx"
)


@pytest.fixture(autouse=True)
def _single() -> None:
    torch.manual_seed(3)
    torch.set_num_threads(1)


def test_scrfd_distances_and_landmarks_are_decoded_from_the_anchor_centres() -> None:
    decoder = detectors.ScrfdDecoder(flat=False)
    heads = []
    for size in (1, 4, 10):
        for stride in detectors.STRIDES:
            heads.append(torch.zeros(1, 2 * (640 // stride) ** 2, size))
    # Stride 16: cell row 3, column 5, second anchor.
    place = 2 * (3 * 40 + 5) + 1
    heads[1][0, place] = 0.9
    heads[4][0, place] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    heads[7][0, place] = torch.arange(10.0)
    boxes, scores, points = decoder(*heads)
    assert scores[0, 0] == pytest.approx(0.9)
    assert boxes[0, 0].tolist() == [80 - 16, 48 - 32, 80 + 48, 48 + 64]
    assert points[0, 0, 4].tolist() == [80 + 8 * 16, 48 + 9 * 16]


def test_yunet_scores_boxes_and_landmarks_are_decoded_from_the_cells() -> None:
    decoder = detectors.YuNetDecoder()
    heads = [
        torch.zeros(1, (640 // stride) ** 2, size)
        for size in (1, 1, 4, 10)
        for stride in detectors.STRIDES
    ]
    place = 7 * 20 + 4  # stride 32, row 7, column 4
    heads[2][0, place], heads[5][0, place] = 0.81, 1.0
    heads[8][0, place] = torch.tensor([0.5, 0.5, 0.0, np.log(2.0)])
    heads[11][0, place] = torch.full((10,), 0.25)
    boxes, scores, points = decoder(*heads)
    assert scores[0, 0] == pytest.approx(0.9)
    assert boxes[0, 0].tolist() == pytest.approx([128, 208, 160, 272])
    assert points[0, 0, 0].tolist() == [4 * 32 + 8, 7 * 32 + 8]


def test_a_graph_exported_for_one_image_serves_a_batch_row_by_row(tmp_path: Path) -> None:
    network = detectors.ScrfdShaped()
    published = as_published(network, (3, 640, 640), tuple(f"h{i}" for i in range(9)))
    fixed = published.graph.graph.input[0].type.tensor_type.shape.dim[0]
    assert fixed.dim_value == 1
    model = models.detector(published, network, "scrfd")
    path = export(model, tmp_path / "1", Precision.FLOAT32)
    error = measure(model, path, Precision.FLOAT32, batch=3)
    assert error.relative < 1e-5
    assert error.rows == 0.0


class BakedBatch(nn.Module):
    """Folds the picture into windows with a batch of 1 spelled out, as Swin trunks do."""

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        windows = planes.reshape(1, 3, 2, 256, 2, 256).permute(0, 2, 4, 1, 3, 5)
        return windows.reshape(4, 3, 256, 256).mean(1).reshape(1, 1, 512, 512)


def test_a_graph_that_bakes_its_batch_in_is_served_one_image_at_a_time(tmp_path: Path) -> None:
    network = BakedBatch()
    model = models.matte(as_published(network, (3, 512, 512), ("y",)), network, "modnet", 512)
    assert model.max_batch == 1
    path = export(model, tmp_path / "1", Precision.FLOAT32)
    assert measure(model, path, Precision.FLOAT32, batch=1).absolute <= 1.0
    free = detectors.YuNetShaped()
    published = as_published(free, (3, 640, 640), detectors.YUNET_HEADS)
    assert models.detector(published, free, "yunet").max_batch == 8


def test_spelled_out_batches_in_reshapes_become_free() -> None:
    shape = numpy_helper.from_array(np.array([1, -1, 2], np.int64), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 2])],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    freed = free_batch(model)
    assert numpy_helper.to_array(freed.graph.initializer[0]).tolist() == [0, -1, 2]
    assert numpy_helper.to_array(model.graph.initializer[0]).tolist() == [1, -1, 2]


def test_float16_keeps_the_ends_and_the_scales_of_resize(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.Upsample(scale_factor=2), nn.Sigmoid())
    published = as_published(network, (3, 16, 16), ("y",))
    half = to_half(published.graph)
    onnx.checker.check_model(half)
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    kinds = {tensor.data_type for tensor in half.graph.initializer}
    assert TensorProto.FLOAT not in kinds
    for name, graph in (("a", published.graph), ("b", half)):
        onnx.save(graph, tmp_path / f"{name}.onnx")
    planes = np.random.default_rng(1).random((1, 3, 16, 16), np.float32)
    full = run_onnx(tmp_path / "a.onnx", {"input": planes})[0]
    found = run_onnx(tmp_path / "b.onnx", {"input": planes})[0]
    assert float(np.abs(full - found).max()) < 2e-3


def test_a_file_without_the_expected_outputs_is_refused(tmp_path: Path) -> None:
    published = as_published(nn.Conv2d(3, 4, 3), (3, 16, 16), ("y",))
    onnx.save(published.graph, tmp_path / "m.onnx")
    assert read_published(tmp_path / "m.onnx").outputs == ("y",)
    with pytest.raises(WrapError, match="cls_8"):
        read_published(tmp_path / "m.onnx", detectors.YUNET_HEADS)


def test_a_graph_that_does_not_follow_its_ports_is_refused() -> None:
    network = detectors.YuNetShaped()
    published = as_published(network, (3, 640, 640), detectors.YUNET_HEADS)
    model = models.detector(published, network, "yunet")
    with pytest.raises(ExportError, match="inputs are"):
        check_ports(published.graph, model)
    table = models.style_prompts(torch.zeros(2, 77, 768), ["a", "b"])
    with pytest.raises(ExportError, match="does not run in float16"):
        export(table, Path("nowhere"), Precision.FLOAT16)


@pytest.mark.parametrize("precision", [Precision.FLOAT16, Precision.BFLOAT16])
def test_a_published_recogniser_is_the_same_in_sixteen_bits(
    tmp_path: Path, precision: Precision
) -> None:
    trunk = recognisers.IResNet((1, 1, 1, 1), 8, models.SFACE_EMBEDDING).eval()
    published = as_published(trunk, (3, 112, 112), ("embedding",))
    model = models.published_encoder(
        published, trunk, "sface-test", "0.4", models.SFACE_EMBEDDING, name="verifier"
    )
    path = export(model, tmp_path / "1", precision)
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    wanted = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[precision]
    assert wanted in kinds
    error = measure(model, path, precision)
    assert error.relative < {"float16": 5e-3, "bfloat16": 5e-2}[precision]
    assert model.outputs[0].dims == (128,)


def astronaut() -> Path:
    """The service's example photo: told by the check, or found by the service's environment."""
    told = os.environ.get("HEADSHOT_EXAMPLE_PHOTO")
    if told:
        return Path(told)
    python = ROOT / ".venv" / "bin" / "python"
    if not python.is_file():
        pytest.skip("no example photo: set HEADSHOT_EXAMPLE_PHOTO")
    script = ROOT / "scripts" / "example_photo.py"
    shown = subprocess.run([python, script], check=True, capture_output=True, text=True)
    return Path(shown.stdout.strip())


@pytest.mark.skipif(not TEACHER.is_file(), reason="no YuNet file: set HEADSHOT_TEACHERS")
@pytest.mark.parametrize("precision", list(Precision))
def test_a_real_yunet_finds_the_astronaut_through_the_wrapper(
    tmp_path: Path, precision: Precision
) -> None:
    # 512 x 512, one face, about x 170-270, y 60-190
    photo = np.asarray(Image.open(astronaut()).convert("RGB"))
    canvas = np.zeros((2, 640, 640, 3), np.uint8)
    canvas[1, :512, :512] = photo
    published: Published = read_published(TEACHER, detectors.YUNET_HEADS)
    model = models.detector(published, nn.Identity(), "yunet")
    path = export(model, tmp_path / "1", precision)
    run = run_rounded if precision is Precision.BFLOAT16 else run_onnx
    boxes, scores, points = run(path, {"image": canvas})
    assert scores[0, 0] < 0.3
    assert scores[1, 0] > 0.8
    left, top, right, bottom = boxes[1, 0]
    assert 150 < left < 200
    assert 240 < right < 290
    assert 40 < top < 110
    assert 160 < bottom < 220
    left_eye, right_eye, nose, left_mouth, right_mouth = points[1, 0]
    assert left < left_eye[0] < nose[0] < right_eye[0] < right
    assert left_mouth[0] < right_mouth[0]
    assert nose[1] < left_mouth[1]
