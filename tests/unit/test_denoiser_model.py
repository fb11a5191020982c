"""The committed denoiser, run from its served file as the flow's Euler steps."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

MODEL = Path(__file__).resolve().parents[2] / "model_repository" / "denoiser" / "1" / "model.onnx"
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Feed = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    return ort.InferenceSession(str(MODEL), options)


@pytest.fixture(scope="module")
def clean() -> Picture:
    face = astronaut()[:256, 96:352]
    return np.asarray(cv2.resize(face, (640, 640), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="module")
def noisy(clean: Picture) -> Picture:
    noise = np.random.default_rng(5).normal(0, 12, clean.shape)
    return np.clip(clean + noise, 0, 255).astype(np.uint8)


def unshuffle(image: Floats) -> Floats:
    return np.ascontiguousarray(
        image.reshape(80, 8, 80, 8, 3).transpose(4, 1, 3, 0, 2).reshape(192, 80, 80)
    )


def shuffle(latent: Floats) -> Floats:
    return latent.reshape(3, 8, 8, 80, 80).transpose(3, 1, 4, 2, 0).reshape(640, 640, 3)


def start(photo: Picture) -> Floats:
    return unshuffle(photo.astype(np.float32) / 127.5 - 1)


def feed(photo: Picture, state: Floats, time: float) -> Feed:
    return {
        "sample": state.astype(np.float16)[None],
        "timestep": np.array([time], np.float32),
        "identity": np.zeros((1, 128), np.float32),
        "reference": photo[None],
    }


def restore(
    session: ort.InferenceSession, photo: Picture, strength: float, steps: int = 4
) -> Floats:
    """The restored photo in -1..1, not clipped, [640, 640, 3]."""
    state = start(photo)
    times = np.linspace(strength, 0, steps + 1)
    for now, after in pairwise(times):
        velocity = session.run(None, feed(photo, state, now))[0][0].astype(np.float32)
        state = state + np.float32(after - now) * velocity
    return shuffle(state)


def error(first: Floats, second: Picture) -> float:
    return float(np.mean((first - (second.astype(np.float32) / 127.5 - 1)) ** 2))


def test_a_row_has_the_same_result_whatever_else_is_in_the_batch(
    session: ort.InferenceSession, noisy: Picture, clean: Picture
) -> None:
    first = feed(noisy, start(noisy), 1.0)
    second = feed(clean[::-1].copy(), start(clean), 0.25)
    together = {name: np.concatenate([first[name], second[name]]) for name in first}
    both = session.run(None, together)[0]
    np.testing.assert_array_equal(both[0], session.run(None, first)[0][0])
    np.testing.assert_array_equal(both[1], session.run(None, second)[0][0])


def test_four_steps_remove_noise(
    session: ort.InferenceSession, noisy: Picture, clean: Picture
) -> None:
    before = error(noisy.astype(np.float32) / 127.5 - 1, clean)
    assert error(restore(session, noisy, 1.0), clean) < 0.5 * before


def test_four_views_are_nearer_to_the_truth_than_one(
    session: ort.InferenceSession, noisy: Picture, clean: Picture
) -> None:
    one, four = (error(restore(session, noisy, 1.0, steps=count), clean) for count in (1, 4))
    assert four < one


def test_a_state_at_the_edge_of_the_range_is_not_led_out_of_it(
    session: ort.InferenceSession, noisy: Picture
) -> None:
    state = np.clip(start(noisy) * 1.5, -1, 1)
    velocity = session.run(None, feed(noisy, state, 1.0))[0][0].astype(np.float32)
    assert np.abs(state - velocity).max() <= 1.001


def test_a_higher_strength_moves_further_from_the_photo(
    session: ort.InferenceSession, noisy: Picture
) -> None:
    moved = [error(restore(session, noisy, s, steps=2), noisy) for s in (0.25, 0.5, 0.75, 1.0)]
    assert moved == sorted(moved)
    assert moved[0] < 0.5 * moved[-1]


def test_a_clean_photo_is_hardly_changed(session: ort.InferenceSession, clean: Picture) -> None:
    assert 10 * np.log10(4 / error(restore(session, clean, 0.9), clean)) > 34


def test_the_prediction_is_finite_at_the_last_moment_of_the_flow(
    session: ort.InferenceSession, noisy: Picture
) -> None:
    prediction = session.run(None, feed(noisy, start(noisy), 0.0))[0]
    assert np.isfinite(prediction).all()
