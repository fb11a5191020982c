from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_scripts.datasets.faces import (
    FACE_SIZE,
    TEMPLATE,
    FaceRecord,
    align,
    similarity_transform,
)
from export_scripts.datasets.identity_split import held_out, is_calibration
from export_scripts.evaluation.identity_encoder import (
    configured_threshold,
    pair_scores,
    protocol_scores,
    read_pairs,
    skin_tone_angle,
    ten_fold_accuracy,
    threshold_at,
    true_accept_rate,
    write_threshold,
)

CONFIG = Path("model_repository/identity_encoder/config.pbtxt")
SPLIT = {"london": ["025"], "official_portraits": ["jane-doe"]}


def test_separable_scores_are_fully_accurate_and_random_ones_are_near_half() -> None:
    rng = np.random.default_rng(0)
    same = rng.random(6000) < 0.5
    separable = np.where(same, 0.7, 0.1) + rng.uniform(-0.1, 0.1, 6000)
    assert ten_fold_accuracy(separable, same).mean() == 1.0
    assert ten_fold_accuracy(rng.random(6000), same).mean() == pytest.approx(0.5, abs=0.03)


def test_a_fold_does_not_choose_its_own_threshold() -> None:
    # The last fold's scores are shifted: the threshold of the others fails on it.
    same = np.tile([True, False], 50)
    scores = np.where(same, 0.8, 0.2)
    scores[90:] = np.where(same[90:], 0.1, 0.0)
    accuracy = ten_fold_accuracy(scores, same)
    assert accuracy[:9].min() == 1.0
    assert accuracy[9] == 0.5


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1e-2, 0.1]))
def test_the_threshold_keeps_the_false_match_rate_and_is_the_lowest_to_do_so(
    seed: int, rate: float
) -> None:
    impostor = np.random.default_rng(seed).normal(size=2000)
    threshold = threshold_at(impostor, rate)
    assert (impostor >= threshold).mean() <= rate
    assert (impostor >= np.nextafter(threshold, -np.inf)).mean() > rate


def test_the_true_accept_rate_counts_genuine_scores_above_the_impostors() -> None:
    impostor = np.linspace(0, 0.5, 1000)
    genuine = np.array([0.4, 0.6, 0.7, 0.9])
    assert true_accept_rate(genuine, impostor, 1e-3) == 0.75


def test_a_face_that_was_not_found_is_wrong_for_one_person_and_for_two() -> None:
    embedding = {"a": np.array([1, 0], np.float32), "b": np.array([0.6, 0.8], np.float32)}
    pairs = [("a", "b", True), ("a", "gone", True), ("gone", "b", False)]
    scores = protocol_scores(embedding, pairs)
    assert scores == pytest.approx([0.6, -1.0, 1.0])
    assert [s >= 0.3 for s in scores] == [True, False, True]


def test_pair_scores_are_split_by_person() -> None:
    embeddings = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    genuine, impostor = pair_scores(embeddings, ["a", "a", "b"])
    assert genuine.tolist() == [1.0]
    assert impostor.tolist() == [0.0, 0.0]


def test_the_pairs_of_lfw_are_read_as_image_names(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("10\t300\nAnn_Lee\t1\t12\nAnn_Lee\t3\tBob_Ray\t4\n")
    pairs, folds = read_pairs(path)
    assert folds == 10
    assert pairs == [
        ("Ann_Lee_0001", "Ann_Lee_0012", True),
        ("Ann_Lee_0003", "Bob_Ray_0004", False),
    ]


def test_a_calibrated_threshold_is_written_into_the_config_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(CONFIG.read_text())
    before = configured_threshold(path)
    write_threshold(path, 0.12345)
    assert configured_threshold(path) == 0.123
    write_threshold(path, before)
    assert path.read_text() == CONFIG.read_text()


def test_a_config_without_a_threshold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "identity_encoder"')
    with pytest.raises(ValueError, match="match_threshold"):
        configured_threshold(path)


@given(
    st.floats(-3, 3),
    st.floats(0.3, 3),
    st.tuples(st.floats(-200, 200), st.floats(-200, 200)),
)
def test_the_alignment_recovers_any_similarity(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[c, -s], [s, c]])
    points = (TEMPLATE @ turn.T + shift).astype(np.float32)
    matrix = similarity_transform(points, TEMPLATE)
    back = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(back, TEMPLATE, atol=0.02)


def test_a_face_already_on_the_template_is_copied() -> None:
    face = np.random.default_rng(0).integers(0, 256, (FACE_SIZE, FACE_SIZE, 3), dtype=np.uint8)
    aligned = align(face, TEMPLATE, margin=0)
    assert np.abs(aligned.astype(int) - face).max() <= 1


def test_a_large_photo_is_averaged_rather_than_sampled() -> None:
    # A fine checkerboard aliases to full contrast when only four pixels are read.
    board = (np.indices((1120, 1120)).sum(0) % 2 * 255).astype(np.uint8)
    photo = np.repeat(board[..., None], 3, axis=2)
    aligned = align(photo, TEMPLATE * 10, margin=0)
    inner = aligned[8:-8, 8:-8].astype(float)
    assert inner.std() < 10
    assert inner.mean() == pytest.approx(127, abs=8)


def test_light_skin_has_a_larger_tone_angle_than_dark_skin() -> None:
    def face(colour: tuple[int, int, int]) -> np.ndarray:
        return np.full((128, 128, 3), colour, np.uint8)

    assert skin_tone_angle(face((240, 215, 200))) > 41
    assert skin_tone_angle(face((95, 60, 40))) < 10


def test_the_test_split_and_the_calibration_people_are_held_out_of_training() -> None:
    def record(source: str, identity: str) -> FaceRecord:
        return FaceRecord(source, "some/file.jpg", identity)

    assert held_out(record("webmorph", "london-025"), SPLIT)
    assert not held_out(record("webmorph", "london-026"), SPLIT)
    assert not held_out(record("webmorph", "canada-025f"), SPLIT)
    assert held_out(record("official", "jane-doe"), SPLIT)
    assert held_out(record("lfw", "Anybody"), SPLIT)
    people = [record("celeba_wild", f"celeba-{i}") for i in range(1000)]
    kept_out = [held_out(p, SPLIT) for p in people]
    assert kept_out == [is_calibration(p) for p in people]
    assert 50 < sum(kept_out) < 200
