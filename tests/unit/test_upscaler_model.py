"""The committed upscaler, run from its served file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

FOLDER = Path(__file__).resolve().parents[2] / "model_repository" / "upscaler"
OVERLAP = 13
Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(FOLDER / "1" / "model.onnx"), options)


def upscale(session: ort.InferenceSession, picture: Picture) -> Picture:
    return np.asarray(session.run(None, {"image": picture[None]})[0][0], np.uint8)


def reduced(picture: Picture, factor: int) -> Picture:
    size = (picture.shape[1] // factor, picture.shape[0] // factor)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def enlarged(picture: Picture, factor: int) -> Picture:
    size = (picture.shape[1] * factor, picture.shape[0] * factor)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def psnr(first: Picture, second: Picture) -> float:
    error = np.mean((first.astype(float) - second.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error))


def test_the_result_has_four_times_the_sides_of_an_odd_sized_photo(
    session: ort.InferenceSession,
) -> None:
    photo = astronaut()[:37, :51]
    assert upscale(session, photo).shape == (148, 204, 3)


def test_a_tile_with_the_configured_overlap_equals_the_whole_image(
    session: ort.InferenceSession,
) -> None:
    config = (FOLDER / "config.pbtxt").read_text()
    assert f'key: "overlap"\n    value: {{ string_value: "{OVERLAP}" }}' in config
    photo = np.ascontiguousarray(astronaut()[100:220, 160:290])
    whole = upscale(session, photo)
    top, left, side = 40, 37, 48
    tile = photo[top - OVERLAP : top + side + OVERLAP, left - OVERLAP : left + side + OVERLAP]
    made = upscale(session, np.ascontiguousarray(tile))
    inner = made[4 * OVERLAP : -4 * OVERLAP, 4 * OVERLAP : -4 * OVERLAP]
    expected = whole[4 * top : 4 * (top + side), 4 * left : 4 * (left + side)]
    difference = np.abs(inner.astype(int) - expected.astype(int))
    # Sums are taken in another order for another width: one code at a rounding boundary, rarely.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_a_flat_image_stays_flat(session: ort.InferenceSession) -> None:
    flat = np.full((32, 32, 3), (180, 120, 90), np.uint8)
    inner = upscale(session, flat)[60:-60, 60:-60].astype(int)
    assert np.abs(inner - np.array([180, 120, 90])).max() <= 3


def test_a_face_is_restored_better_than_by_bicubic_interpolation(
    session: ort.InferenceSession,
) -> None:
    sharp = np.ascontiguousarray(astronaut()[:256, 96:352])
    small = reduced(sharp, 4)
    assert psnr(upscale(session, small), sharp) > psnr(enlarged(small, 4), sharp) + 0.8


def test_rows_of_a_batch_do_not_change_each_other(session: ort.InferenceSession) -> None:
    random = np.random.default_rng(0)
    first = np.ascontiguousarray(astronaut()[:40, :40])
    other = random.integers(0, 256, first.shape, dtype=np.uint8)
    together = session.run(None, {"image": np.stack([first, other])})[0]
    np.testing.assert_array_equal(together[0], upscale(session, first))
