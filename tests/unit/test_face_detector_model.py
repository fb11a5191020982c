"""The served face detector, run on real pictures in ONNX Runtime."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import openvino as ov
import pytest
from skimage import data

from export_scripts.onnx_tools import computes_bfloat16

FOLDER = Path(__file__).resolve().parents[2] / "model_repository" / "face_detector"
CANVAS = 640
# Where the eyes of skimage.data.astronaut() are, in pixels of the 512x512 photo (read off by eye).
EYES = np.array([[205.0, 103.0], [247.0, 105.0]])


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(FOLDER / "1" / "model.onnx")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def threshold() -> float:
    text = (FOLDER / "config.pbtxt").read_text()
    found = re.search(r'"score_threshold"\s*value:?\s*\{\s*string_value:\s*"([\d.]+)"', text)
    assert found is not None
    return float(found.group(1))


def on_canvas(image: npt.NDArray[np.uint8], scale: float, x: int, y: int) -> npt.NDArray[np.uint8]:
    matrix = np.array([[scale, 0, x], [0, scale, y]], np.float64)
    return np.asarray(cv2.warpAffine(image, matrix, (CANVAS, CANVAS)), np.uint8)


def detect(
    session: ort.InferenceSession, batch: npt.NDArray[np.uint8]
) -> list[npt.NDArray[np.float32]]:
    outputs: list[npt.NDArray[np.float32]] = session.run(None, {"image": batch})
    return outputs


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.25, 2.5])
def test_the_astronaut_is_found_at_every_size_with_eyes_in_place(
    session: ort.InferenceSession, threshold: float, scale: float
) -> None:
    # The face is about 105 px high in the photo: 8% to 41% of the canvas.
    x, y = (0, 0) if scale < 1.3 else (round(320 - 225 * scale), round(320 - 120 * scale))
    canvas = on_canvas(data.astronaut(), scale, x, y)
    boxes, scores, landmarks = detect(session, canvas[None])
    assert scores[0, 0] >= threshold
    expected = EYES * scale + [x, y]
    error = np.linalg.norm(landmarks[0, 0, :2] - expected, axis=1).max()
    assert error < 0.2 * 42 * scale
    left, top, right, bottom = boxes[0, 0]
    assert (left < expected[:, 0]).all() and (expected[:, 0] < right).all()
    assert (top < expected[:, 1]).all() and (expected[:, 1] < bottom).all()


def test_a_mirrored_photo_keeps_the_order_left_eye_then_right_eye_as_seen(
    session: ort.InferenceSession,
) -> None:
    canvas = on_canvas(np.ascontiguousarray(data.astronaut()[:, ::-1]), 1.25, 0, 0)
    _, _, landmarks = detect(session, canvas[None])
    left_eye, right_eye, _, left_mouth, right_mouth = landmarks[0, 0]
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]


def test_candidates_are_sorted_and_shaped_as_the_contract_says(
    session: ort.InferenceSession,
) -> None:
    rng = np.random.default_rng(1)
    batch = rng.integers(0, 256, (2, CANVAS, CANVAS, 3), dtype=np.uint8)
    batch[1] = on_canvas(data.astronaut(), 1.25, 0, 0)
    boxes, scores, landmarks = detect(session, batch)
    assert boxes.shape == (2, 64, 4)
    assert scores.shape == (2, 64)
    assert landmarks.shape == (2, 64, 5, 2)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.isfinite(boxes).all() and np.isfinite(landmarks).all()


def test_a_row_does_not_depend_on_its_batch(session: ort.InferenceSession) -> None:
    canvas = on_canvas(data.astronaut(), 1.25, 0, 0)
    other = np.random.default_rng(2).integers(0, 256, canvas.shape, dtype=np.uint8)
    alone = detect(session, canvas[None])
    together = detect(session, np.stack([other, canvas]))
    for first, second in zip(alone, together, strict=True):
        np.testing.assert_allclose(first[0, 0], second[1, 0], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("picture", ["coffee", "chelsea", "rocket"])
def test_pictures_without_people_hold_no_face(
    session: ort.InferenceSession, threshold: float, picture: str
) -> None:
    image = getattr(data, picture)()
    scale = CANVAS / max(image.shape[:2])
    _, scores, _ = detect(session, on_canvas(image, scale, 0, 0)[None])
    assert scores.max() < threshold


@pytest.mark.skipif(not computes_bfloat16(), reason="OpenVINO computes float32 here instead")
def test_bfloat16_moves_the_landmarks_by_less_than_two_pixels(
    session: ort.InferenceSession,
) -> None:
    canvas = on_canvas(data.astronaut(), 2.5, -242, 20)
    _, _, exact = detect(session, canvas[None])
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(str(FOLDER / "1" / "model.onnx"), "CPU", settings)
    rough = compiled.create_infer_request().infer([canvas[None]])[2]
    assert np.abs(np.asarray(rough)[0, 0] - exact[0, 0]).max() < 2.0
