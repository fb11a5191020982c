"""How the detector's third look learns: crops as the graph cuts them, the teacher's own answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
cv2 = pytest.importorskip("cv2", reason="training environment only: requirements/train.txt")

from safetensors.torch import load_file, save_file  # noqa: E402

from export_scripts.datasets import face_framings  # noqa: E402
from export_scripts.datasets.face_framings import (  # noqa: E402
    CANVAS,
    FACE_SHARE,
    Framed,
    cut,
    draw,
    frame,
    framing_matrix,
    sample,
)
from export_scripts.networks.face_detector import build  # noqa: E402
from export_scripts.networks.face_refiner import (  # noqa: E402
    THIRD_CROP,
    THIRD_LOOK,
    THIRD_MARGIN,
    Refiner,
    crop_squares,
    halvings,
    place,
)
from export_scripts.training.face_landmarks import (  # noqa: E402
    distance,
    inherit,
    load_framings,
    look,
    moved_anew,
    wake,
)

BOX = np.array([200, 150, 280, 250], np.float32)
POINTS = np.array([(220, 190), (260, 190), (240, 205), (225, 225), (255, 225)], np.float32)


class OneFace:
    """Stands in for the teacher: knows the face of the photo below, wherever it was drawn."""

    def detect_at_scales(self, rgb: np.ndarray, longest: tuple[int, ...]) -> np.ndarray:
        """Find the white dots of `dotted`, float32 [n,16]."""
        _, _, _, centres = cv2.connectedComponentsWithStats(np.uint8(rgb[..., 1] > 150))
        points = centres[1:]
        if len(points) != 5:
            return np.zeros((0, 16), np.float32)
        points = points[np.argsort(points[:, 1])]
        order = [*sorted(points[:2], key=lambda p: p[0]), points[2]]
        order += sorted(points[3:], key=lambda p: p[0])
        eyes = np.linalg.norm(order[0] - order[1])
        middle = np.mean(order[:2], axis=0) + np.array([0, eyes * 0.25])
        half = np.array([eyes, eyes * 1.25])
        row = [*(middle - half), *(middle + half), *np.ravel(order), 0.9, len(longest)]
        return np.array([row], np.float32)


def dotted() -> np.ndarray:
    """Return a grey photo with a white dot at each landmark."""
    photo = np.full((400, 480, 3), 60, np.uint8)
    for x, y in POINTS.astype(int):
        photo[y - 4 : y + 5, x - 4 : x + 5] = 255
    return photo


@pytest.mark.parametrize("side", [20.0, 90.0, 180.0, 400.0, 700.0])
def test_crops_are_cut_as_the_served_graph_cuts_them(side: float) -> None:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (40, 40, 3), np.uint8)
    canvas = np.asarray(cv2.resize(small, (CANVAS, CANVAS)), np.uint8)
    box = np.array([300 - side / 2, 280 - side * 0.4, 300 + side / 2, 280 + side * 0.4], np.float32)
    crop, square = cut(canvas, box)
    pixels = halvings(torch.from_numpy(canvas[None]).float())
    boxes = torch.from_numpy(box[None, None])
    expected, squares = crop_squares(pixels, CANVAS, boxes, THIRD_CROP, THIRD_MARGIN)
    assert squares[0, 0].tolist() == square.tolist()
    np.testing.assert_allclose(crop, expected[0].permute(1, 2, 0).numpy(), atol=1.5)


def test_a_framed_face_takes_half_of_the_picture() -> None:
    rng = np.random.default_rng(5)
    shares, mirrored = [], 0
    for _ in range(300):
        linear = framing_matrix(rng, BOX, 150)[:, :2]
        shares.append(np.sqrt(abs(np.linalg.det(linear))) * 100 / 150)
        mirrored += np.linalg.det(linear) < 0
    assert np.mean(shares) == pytest.approx(FACE_SHARE, rel=0.03)
    assert 110 < mirrored < 190


def test_points_lie_on_what_the_crop_shows_whatever_the_framing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(face_framings, "degrade", lambda rng, picture, strength: picture)
    rng = np.random.default_rng(8)
    hits: list[bool] = []
    while len(hits) < 200:
        framed = frame(rng, OneFace(), dotted(), BOX)  # type: ignore[arg-type]
        if framed is None:
            continue
        crop, points = sample(rng, framed)
        for x, y in np.rint((points + 0.5) * THIRD_CROP - 0.5).astype(int):
            hits.append(bool(crop[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max() > 140))
    assert np.mean(hits) > 0.98


def test_a_face_that_the_teacher_does_not_see_is_left_out() -> None:
    grey = np.full((400, 480, 3), 60, np.uint8)
    rng = np.random.default_rng(0)
    assert frame(rng, OneFace(), grey, BOX) is None  # type: ignore[arg-type]


def test_a_photo_that_shrinks_is_drawn_in_place() -> None:
    matrix = np.array([[0.2, 0, 10], [0, 0.2, 5]])
    picture = draw(dotted(), matrix, 120, cv2.BORDER_CONSTANT)
    for x, y in np.rint(POINTS @ matrix[:, :2].T + matrix[:, 2]).astype(int):
        assert picture[y - 1 : y + 2, x - 1 : x + 2].max() > 120


def test_points_come_back_to_the_canvas_they_were_cut_from() -> None:
    row = np.concatenate([BOX, POINTS.ravel(), [0.9, 2]]).astype(np.float32)
    framed = Framed(np.zeros((640, 640, 3), np.uint8), row)
    canvas, square = cut(framed.picture, framed.face[:4])
    assert canvas.shape == (THIRD_CROP, THIRD_CROP, 3)
    points = (POINTS - square[:2]) / square[2] - 0.5
    squares = torch.from_numpy(square)[None, None]
    back = place(torch.from_numpy(points.reshape(1, 1, 10)), squares)
    np.testing.assert_allclose(back.numpy().reshape(5, 2), POINTS, atol=1e-3)


def test_the_distance_is_in_eye_distances() -> None:
    points = torch.tensor([[[-0.1, 0.0], [0.1, 0.0], [0, 0.1], [-0.1, 0.2], [0.1, 0.2]]])
    moved = points + torch.tensor([0.02, 0.0])
    assert distance(moved.flatten(1), points).mean().item() == pytest.approx(0.1, rel=0.01)


def test_points_move_with_the_crop() -> None:
    crops = torch.full((60, THIRD_CROP, THIRD_CROP, 3), 60, dtype=torch.uint8)
    places = torch.tensor([(30, 36), (62, 36), (46, 50), (34, 66), (60, 66)])
    for x, y in places.tolist():
        crops[:, y - 1 : y + 2, x - 1 : x + 2] = 255
    points = ((places + 0.5) / THIRD_CROP - 0.5).expand(60, 5, 2)
    moved, found = moved_anew(crops, points, torch.Generator().manual_seed(2))
    assert (found - points).abs().max() > 0.03
    pixels = ((found + 0.5) * THIRD_CROP - 0.5).round().long()
    rows = torch.arange(60).unsqueeze(-1)
    assert (moved[rows, pixels[..., 1], pixels[..., 0]] > 150).all()


def test_the_third_look_starts_from_the_second() -> None:
    network = Refiner(THIRD_LOOK, THIRD_CROP, 10)
    second = build().closer.state_dict()
    network.load_state_dict(inherit(second))
    assert torch.equal(network.features[0][0].weight, second["features.0.0.weight"])
    assert network(torch.zeros(2, 3, THIRD_CROP, THIRD_CROP)).shape == (2, 10)


def test_hidden_units_that_no_face_wakes_are_drawn_anew_and_change_nothing_yet() -> None:
    torch.manual_seed(4)
    network = Refiner(THIRD_LOOK, THIRD_CROP, 10).train()
    with torch.no_grad():
        network.hidden.bias[20:] = -1e4
    crops = torch.randint(0, 256, (64, THIRD_CROP, THIRD_CROP, 3), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(1)
    network.eval()
    before = look(network, crops).detach()
    assert wake(network, crops, generator) >= len(network.hidden.bias) - 20
    assert torch.equal(look(network, crops), before)
    assert wake(network, crops, generator) == 0
    # From now on they learn.
    loss = look(network.train(), crops).square().sum()
    loss.backward()
    grown = network.output.weight.grad[:, 20:].abs().sum(0) > 0
    assert grown.float().mean() > 0.95


def test_without_framings_the_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no framings"):
        load_framings(tmp_path)


def test_a_training_of_the_third_look_leaves_the_other_parts_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = {k: v.half().contiguous() for k, v in build().state_dict().items()}
    save_file(before, tmp_path / "before.safetensors")
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 255, (160, THIRD_CROP, THIRD_CROP, 3), np.uint8)
    points = rng.normal(0, 0.2, (160, 5, 2)).astype(np.float32)
    held = (np.arange(160) % 10 == 0).astype(np.uint8)
    np.savez(tmp_path / "part0of1-0000.npz", crops=crops, points=points, held=held)
    sets = load_framings(tmp_path)
    assert len(sets[True][0]) == 16 and len(sets[False][0]) == 144
    # A process of its own: threads that earlier tests set stay theirs.
    command = [sys.executable, "-m", "export_scripts.training.face_landmarks"]
    command += ["--framings", str(tmp_path), "--others", str(tmp_path / "before.safetensors")]
    command += ["--out", str(tmp_path / "run"), "--minutes", "0.03"]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    after = load_file(tmp_path / "run" / "face_detector.safetensors")
    assert after.keys() == before.keys()
    changed = {k.split(".")[0] for k in after if not torch.equal(after[k], before[k])}
    assert changed == {"pointer"}
