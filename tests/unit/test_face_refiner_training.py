"""How the detector's two looks learn: crops with landmarks in place, one look at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("cv2", reason="training environment only: requirements/train.txt")

from safetensors.torch import load_file, save_file  # noqa: E402

from export_scripts.datasets.face_patches import AROUND, PATCH  # noqa: E402
from export_scripts.networks.face_detector import build  # noqa: E402
from export_scripts.networks.face_refiner import CROP, MARGIN, SECOND_LOOK, Refiner  # noqa: E402
from export_scripts.training import face_refiner  # noqa: E402
from export_scripts.training.face_refiner import LOOKS, crop_matrix, face_crop  # noqa: E402

# Box corners and five landmarks in patch sides from the centre, as face_patches writes them.
HALF = 0.5 / AROUND
POINTS = np.array(
    [
        (-HALF, -HALF),
        (HALF, HALF),
        (-0.09, -0.05),
        (0.09, -0.05),
        (0, 0.03),
        (-0.07, 0.1),
        (0.07, 0.1),
    ],
    np.float32,
)


def dotted() -> np.ndarray:
    """Return a grey patch with a white dot at each landmark."""
    patch = np.full((PATCH, PATCH, 3), 60, np.uint8)
    for x, y in np.rint(POINTS[2:] * PATCH + PATCH / 2).astype(int):
        patch[y - 2 : y + 3, x - 2 : x + 3] = 255
    return patch


@pytest.mark.parametrize("look", ["first", "second"])
def test_the_targets_of_a_crop_lie_on_what_the_crop_shows(
    look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face_refiner, "degrade", lambda rng, crop, share: crop)
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(40):
        crop, target = face_crop(rng, LOOKS[look], dotted(), POINTS)
        places = np.rint(target.reshape(7, 2)[2:] * CROP + CROP / 2 - 0.5).astype(int)
        hits += [
            crop[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max() > 150
            for x, y in places
            if 0 <= x < CROP and 0 <= y < CROP
        ]
    # A few dots are lost where the edge of the canvas is played.
    assert np.mean(hits) > 0.9


def test_the_second_look_sees_faces_better_centred_than_the_first() -> None:
    spread = {}
    for name, look in LOOKS.items():
        rng = np.random.default_rng(7)
        boxes = [face_crop(rng, look, dotted(), POINTS)[1][:4] for _ in range(200)]
        middle = np.array(boxes).reshape(-1, 2, 2).mean(1)
        spread[name] = float(np.linalg.norm(middle, axis=1).mean())
    assert spread["second"] < 0.6 * spread["first"]


def test_an_untouched_crop_is_margin_times_the_face() -> None:
    matrix = crop_matrix(np.random.default_rng(0), 1.0, np.zeros(2), 0.0)
    face = PATCH / AROUND * np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    assert face * MARGIN == pytest.approx(CROP)


def test_a_training_of_one_look_leaves_the_other_parts_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = {k: v.half().contiguous() for k, v in build().state_dict().items()}
    save_file(before, tmp_path / "before.safetensors")
    others = np.random.default_rng(1).integers(0, 255, (12, PATCH, PATCH, 3), np.uint8)
    faces, points = np.stack([dotted()] * 6), np.stack([POINTS] * 6)
    np.savez(tmp_path / "patches.npz", faces=faces, points=points, others=others)
    # A process of its own: the loader forks, which threads that earlier tests left do not survive.
    command = [sys.executable, "-m", "export_scripts.training.face_refiner", "--look", "second"]
    command += ["--data", str(tmp_path), "--others", str(tmp_path / "before.safetensors")]
    command += ["--out", str(tmp_path / "run"), "--minutes", "0.03"]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    after = load_file(tmp_path / "run" / "face_detector.safetensors")
    assert after.keys() == before.keys()
    changed = {k.split(".")[0] for k in after if not torch.equal(after[k], before[k])}
    assert changed == {"closer"}


def test_both_looks_answer_with_score_box_and_landmarks() -> None:
    for layers in (look.layers for look in LOOKS.values()):
        assert Refiner(layers)(torch.zeros(2, 3, CROP, CROP)).shape == (2, 15)
    assert sum(layer < 0 for layer in SECOND_LOOK) == 4
