from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export_scripts.onnx_tools import computes_bfloat16, run_openvino

MODEL = Path("model_repository/identity_encoder/1/model.onnx")


def _faces(count: int) -> np.ndarray:
    rng = np.random.default_rng(20261121)
    return rng.integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def test_the_served_embedding_has_unit_length_and_does_not_depend_on_the_batch() -> None:
    faces = _faces(5)
    [together] = run_openvino(MODEL, {"face": faces}, "f32")
    assert together.shape == (5, 128)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for i in range(5):
        [alone] = run_openvino(MODEL, {"face": faces[i : i + 1]}, "f32")
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


@pytest.mark.parametrize(
    "precision",
    [
        "f32",
        pytest.param(
            "bf16",
            marks=pytest.mark.skipif(
                not computes_bfloat16(), reason="OpenVINO computes float32 here instead"
            ),
        ),
    ],
)
def test_a_face_and_a_noisy_copy_of_it_stay_closer_than_two_faces(precision: str) -> None:
    rng = np.random.default_rng(0)
    skimage_data = pytest.importorskip("skimage.data")
    face = np.ascontiguousarray(skimage_data.astronaut()[60:172, 168:280])
    noisy = np.clip(face + rng.normal(0, 8, face.shape), 0, 255).astype(np.uint8)
    other = np.ascontiguousarray(face[::-1])
    [e] = run_openvino(MODEL, {"face": np.stack([face, noisy, other])}, precision)
    assert e[0] @ e[1] > 0.8
    assert e[0] @ e[2] < e[0] @ e[1] - 0.3
