"""The served matting network, run on real pictures in ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from skimage import data

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = Path(os.environ.get("HEADSHOT_PHOTOS", ROOT.parent / "shared" / "photos"))
CANVAS = 512
Bytes = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(ROOT / "model_repository" / "matting" / "1" / "model.onnx")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def matte(session: ort.InferenceSession, *images: Bytes) -> Bytes:
    (alpha,) = session.run(None, {"image": np.stack(images)})
    assert alpha.dtype == np.uint8
    assert alpha.shape == (len(images), CANVAS, CANVAS, 1)
    return np.asarray(alpha[..., 0], np.uint8)


def test_the_astronaut_is_person_and_the_wall_is_not(session: ort.InferenceSession) -> None:
    alpha = matte(session, data.astronaut())[0]
    assert alpha[90:160, 200:250].mean() > 245  # the face
    assert alpha[300:500, 150:330].mean() > 235  # the suit
    assert alpha[10:90, 110:150].mean() < 12  # the wall


def test_the_flag_behind_the_astronaut_is_background(session: ort.InferenceSession) -> None:
    alpha = matte(session, data.astronaut())[0]
    assert alpha[20:150, 10:90].mean() < 25


def test_hair_has_soft_edges_not_a_cut(session: ort.InferenceSession) -> None:
    alpha = matte(session, data.astronaut())[0]
    head = alpha[20:200, 130:320]
    soft = (head > 20) & (head < 235)
    assert 0.01 < soft.mean() < 0.25


def test_a_row_does_not_depend_on_its_batch(session: ort.InferenceSession) -> None:
    photo = data.astronaut()
    noise = np.random.default_rng(3).integers(0, 256, photo.shape, dtype=np.uint8)
    alone = matte(session, photo)[0]
    together = matte(session, noise, photo)[1]
    assert np.abs(alone.astype(int) - together.astype(int)).max() <= 1


def test_a_selfie_whose_head_is_cut_by_the_frame_is_still_a_person(
    session: ort.InferenceSession,
) -> None:
    face = data.astronaut()[60:200, 155:295]
    close = np.asarray(cv2.resize(face, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC), np.uint8)
    alpha = matte(session, close)[0]
    assert alpha[128:384, 128:384].mean() > 240


@pytest.mark.parametrize("name", ["london_025", "london_092_smiling", "official_al-green"])
def test_portraits_have_a_full_face_and_an_empty_corner(
    session: ort.InferenceSession, name: str
) -> None:
    path = PHOTOS / f"{name}.jpg"
    if not path.is_file():
        pytest.skip("no such photo: set HEADSHOT_PHOTOS")
    bgr = cv2.imread(str(path))
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    small = cv2.resize(rgb, (CANVAS, CANVAS), interpolation=cv2.INTER_AREA)
    alpha = matte(session, np.asarray(small, np.uint8))[0]
    assert alpha[200:330, 220:300].mean() > 245
    assert alpha[:60, -60:].mean() < 12
