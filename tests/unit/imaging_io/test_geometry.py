"""Transforms, alignment, letterboxing, warping, suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from headshot.imaging.geometry import (
    ARCFACE_TEMPLATE,
    align_face,
    apply_transform,
    fit_long_side,
    invert_transform,
    letterbox,
    nms,
    resize,
    shrink,
    similarity_transform,
    warp,
)
from hypothesis import given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "alignment_golden.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.asarray(skimage.data.astronaut())


def test_transforms_equal_those_of_insightface(golden: dict[str, np.ndarray]) -> None:
    for points, size, matrix in zip(
        golden["landmarks"], golden["sizes"], golden["matrices"], strict=True
    ):
        made = similarity_transform(points, ARCFACE_TEMPLATE * (size / 112))
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, matrix, rtol=1e-5, atol=2e-4)


def test_aligned_faces_equal_those_of_insightface_in_every_pixel(
    golden: dict[str, np.ndarray], astronaut: np.ndarray
) -> None:
    for points, crop in zip(golden["landmarks"], golden["crops"], strict=False):
        made = align_face(astronaut, points)
        assert made.shape == (112, 112, 3)
        # insightface works in float32: where a sample lies on the edge between two of OpenCV's
        # 1/32 pixel steps, a single value may fall to the other side.
        assert np.mean(made != crop) < 5e-4
        assert int(np.abs(made.astype(int) - crop).max()) <= 4


@pytest.mark.slow
def test_alignment_equals_an_installed_insightface(astronaut: np.ndarray) -> None:
    face_align = pytest.importorskip(
        "insightface.utils.face_align", reason="insightface is not installed"
    )
    rng = np.random.default_rng(5)
    for _ in range(200):
        points = ARCFACE_TEMPLATE * rng.uniform(0.5, 4) + rng.normal(0, 5, (5, 2))
        points = points + rng.uniform(0, 200, 2)
        made, theirs = align_face(astronaut, points), face_align.norm_crop(astronaut, points)
        assert np.mean(made != theirs) < 1e-3


@settings(max_examples=60, deadline=None)
@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_a_known_similarity_is_found_again(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    truth = np.array([[c, -s, shift[0]], [s, c, shift[1]]])
    found = similarity_transform(ARCFACE_TEMPLATE, apply_transform(truth, ARCFACE_TEMPLATE))
    np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-2)


def test_mirrored_points_are_fitted_without_mirroring() -> None:
    mirrored = ARCFACE_TEMPLATE * np.array([-1, 1])
    matrix = similarity_transform(mirrored, ARCFACE_TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    "points",
    [np.ones((5, 2)), np.full((5, 2), np.nan), np.ones((1, 2)), np.ones((5, 3))],
    ids=["coincident", "not finite", "one point", "three columns"],
)
def test_points_without_a_transform_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"coincide|finite|wanted"):
        similarity_transform(points, np.ones_like(points))


def test_inverse_transform_leads_back() -> None:
    matrix = np.array([[0.9, -0.4, 30], [0.4, 0.9, -7]])
    there = apply_transform(matrix, ARCFACE_TEMPLATE)
    back = apply_transform(invert_transform(matrix), there)
    np.testing.assert_allclose(back, ARCFACE_TEMPLATE, atol=1e-3)


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (1280, 720), (64, 64)])
def test_letterbox_keeps_the_aspect_and_pads_with_zeros(width: int, height: int) -> None:
    image = np.full((height, width, 3), 200, dtype=np.uint8)
    canvas, scale = letterbox(image, 256)
    assert canvas.shape == (256, 256, 3)
    assert scale == pytest.approx(256 / max(width, height))
    used = (round(height * scale), round(width * scale))
    assert bool((canvas[: used[0], : used[1]] == 200).all())
    assert int(canvas[used[0] :].sum()) == 0
    assert int(canvas[:, used[1] :].sum()) == 0


def test_letterbox_coordinates_are_the_photo_coordinates_times_the_scale() -> None:
    image = np.zeros((1000, 800, 3), dtype=np.uint8)
    image[600:610, 400:410] = 255
    canvas, scale = letterbox(image, 500)
    rows, columns = np.nonzero(canvas[..., 0] > 100)
    assert (columns.mean() + 0.5) / scale == pytest.approx(405, abs=1)
    assert (rows.mean() + 0.5) / scale == pytest.approx(605, abs=1)


@pytest.mark.parametrize(
    ("width", "height", "target"),
    [
        (2048, 2048, (640, 640)),
        (1536, 2048, (480, 640)),
        (2048, 1366, (512, 512)),
        (2048, 1365, (640, 427)),
        (1600, 1200, (640, 480)),
        (900, 700, (640, 498)),
    ],
)
def test_a_picture_shrunk_in_halves_is_the_picture_shrunk(
    width: int, height: int, target: tuple[int, int]
) -> None:
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)

    def backwards(parts):
        for part in reversed(parts):
            part()

    assert np.array_equal(shrink(image, target, backwards), shrink(image, target))


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 10, 9]])
    kept = nms(boxes, np.array([0.5, 0.9, 0.3, 0.8]), 0.4)
    assert kept.tolist() == [1, 2]


def test_suppression_takes_no_boxes_and_keeps_boxes_without_area() -> None:
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.4).tolist() == []
    assert nms(np.zeros((2, 4)), np.array([0.1, 0.2]), 0.4).tolist() == [1, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_kept_boxes_never_overlap_by_more_than_the_threshold(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (30, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 60, (30, 2))])
    scores = rng.uniform(0, 1, 30)
    kept = nms(boxes, scores, threshold)
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    overlap = _iou(boxes[kept])
    np.fill_diagonal(overlap, 0)
    assert overlap.max(initial=0) <= threshold + 1e-9
    dropped = np.setdiff1d(np.arange(30), kept)
    for index in dropped:  # each dropped box has a better one that stayed
        better = kept[scores[kept] >= scores[index]]
        assert _iou(boxes[np.append(better, index)])[-1, :-1].max() > threshold


def _iou(boxes: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(common / (area[:, None] + area[None] - common))


def test_shrinking_warp_does_not_alias() -> None:
    # Stripes one pixel wide, eight times too fine for the output: they must become even grey.
    stripes = np.zeros((800, 800, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    matrix = np.array([[1 / 7.3, 0, 0], [0, 1 / 7.3, 0]])
    inner = warp(stripes, matrix, (100, 100))[10:90, 10:90]
    assert int(inner.max()) - int(inner.min()) <= 30
    plain = cv2.warpAffine(stripes, matrix, (100, 100))[10:90, 10:90]
    assert int(plain.max()) - int(plain.min()) > 200


@pytest.mark.parametrize("side", [800, 801, 803])
@pytest.mark.parametrize("factor", [2.0, 3.1, 5.3])
def test_a_shrinking_warp_is_near_the_mean_over_areas(side: int, factor: float) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    photo = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.uint8)
    size = (round(side / factor), round(side / factor))
    scale = size[0] / side
    # Pixels' middles lie at half numbers.
    matrix = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]])
    areas = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(float)
    error = warp(photo, matrix, size, "replicate") - areas
    assert abs(error.mean()) < 0.5
    assert error.std() < 0.4 * areas.std()


@pytest.mark.parametrize("shrink", [0.4, 1.0, 1.7, 3.3, 8.0])
@pytest.mark.parametrize("degrees", [0, 27])
def test_warp_puts_points_where_the_matrix_says(shrink: float, degrees: float) -> None:
    image = np.zeros((900, 900), dtype=np.uint8)
    centre = np.array([610.0, 330.0])
    yy, xx = np.mgrid[0:900, 0:900]
    spot = np.exp(-((xx - centre[0]) ** 2 + (yy - centre[1]) ** 2) / (2 * (6 * shrink) ** 2))
    image = (255 * spot).astype(np.uint8)
    a = np.deg2rad(degrees)
    linear = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) / shrink
    matrix = np.column_stack([linear, np.array([150.0, 140.0]) - linear @ centre])
    out = warp(image, matrix, (300, 280)).astype(float)
    total = out.sum()
    y, x = np.mgrid[0:280, 0:300]
    assert (x * out).sum() / total == pytest.approx(150, abs=0.1)
    assert (y * out).sum() / total == pytest.approx(140, abs=0.1)


@pytest.mark.parametrize(("border", "level"), [("zero", 0), ("replicate", 90), ("reflect", 90)])
@pytest.mark.parametrize("shrink", [1.0, 4.0])
def test_warp_fills_the_outside_as_asked(border: str, level: int, shrink: float) -> None:
    image = np.full((200, 200, 3), 90, dtype=np.uint8)
    matrix = np.array([[1 / shrink, 0, 40], [0, 1 / shrink, 40]])
    out = warp(image, matrix, (80, 80), border)  # type: ignore[arg-type]
    assert out[5, 5].tolist() == [level] * 3
    assert out[70, 70].tolist() == [90] * 3


def test_warp_by_the_identity_changes_nothing(astronaut: np.ndarray) -> None:
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(warp(astronaut, identity, (512, 512)), astronaut)


def test_a_matrix_without_area_is_refused(astronaut: np.ndarray) -> None:
    with pytest.raises(ValueError, match="singular"):
        warp(astronaut, np.zeros((2, 3)), (10, 10))


def test_an_output_beside_the_photo_is_border_only(astronaut: np.ndarray) -> None:
    matrix = np.array([[0.25, 0, 10_000], [0, 0.25, 10_000]])
    assert int(warp(astronaut, matrix, (64, 64)).sum()) == 0


def test_resize_gives_the_size_and_keeps_the_mean(astronaut: np.ndarray) -> None:
    for size in [(100, 80), (900, 700), (100, 700), (512, 512)]:
        out = resize(astronaut, size)
        assert out.shape == (size[1], size[0], 3)
        assert out.mean() == pytest.approx(astronaut.mean(), abs=1)


def test_long_side_shrinks_only(astronaut: np.ndarray) -> None:
    assert fit_long_side(astronaut[:256], 128).shape == (64, 128, 3)
    assert fit_long_side(astronaut, 4000).shape == astronaut.shape


def test_antialiased_alignment_has_less_noise_on_a_large_face() -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(rng.normal(128, 40, (1400, 1400, 3)), 0, 255).astype(np.uint8)
    points = ARCFACE_TEMPLATE * 12 + 20
    plain = align_face(noisy, points)[20:90, 20:90]
    smooth = align_face(noisy, points, antialias=True)[20:90, 20:90]
    assert smooth.std() < plain.std() / 5


@pytest.mark.parametrize("side", [1, 7, 320])
def test_a_warp_in_halves_has_the_pixels_of_a_warp_in_one(astronaut: np.ndarray, side: int) -> None:
    for turn, scale in [(0.0, 0.4), (0.2, 0.9), (-0.4, 2.3)]:
        cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
        matrix = np.array([[cosine, -sine, 11.3], [sine, cosine, -7.7]])

        def in_turn(jobs: Sequence[Callable[[], object]]) -> None:
            for job in jobs:
                job()

        whole = warp(astronaut, matrix, (side, side), "replicate")
        np.testing.assert_array_equal(
            warp(astronaut, matrix, (side, side), "replicate", in_turn), whole
        )
