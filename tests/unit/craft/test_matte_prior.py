from __future__ import annotations

import cv2
import numpy as np
from headshot.imaging import matte_prior

from tests.unit.craft import material


def scene() -> tuple[material.U8, material.F32, material.F32]:
    """Return the astronaut before a striped wall, the true matte, and her landmarks."""
    person, landmarks = material.astronaut_portrait(640)
    truth = material.person_alpha(640, strands=False)
    wall = material.plain((40, 90, 130))
    wall[:, ::64] = (200, 190, 60)
    return material.over(person, truth, wall), truth, landmarks


def undecided(truth: material.F32) -> material.U8:
    """Return what an unsure network says: a leak beside the head, fading shoulders."""
    weak = cv2.GaussianBlur(truth, (0, 0), 6)
    leak = np.zeros_like(weak)
    cv2.ellipse(leak, (150, 180), (90, 150), 0, 0, 360, 0.75, -1)
    weak = np.maximum(weak, cv2.GaussianBlur(leak, (0, 0), 25))
    weak[430:] *= np.linspace(1.0, 0.45, 210, dtype=np.float32)[:, None]
    small = cv2.resize(weak, (512, 512), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(np.clip(small, 0, 1) * 255), np.uint8)


def error(alpha: np.ndarray, truth: material.F32) -> float:
    wanted = cv2.resize(truth, (512, 512), interpolation=cv2.INTER_AREA)
    return float(np.abs(alpha / 255.0 - wanted).mean())


def test_an_undecided_matte_is_decided_nearly_as_the_truth() -> None:
    image, truth, landmarks = scene()
    weak = undecided(truth)
    made = matte_prior.reinforce(weak, image, landmarks)
    assert made.dtype == np.uint8
    assert made.shape == weak.shape
    assert error(made, truth) < 0.4 * error(weak, truth)
    assert matte_prior.greyness(made) < matte_prior.greyness(weak)


def test_a_crisp_matte_passes_untouched() -> None:
    image, _, landmarks = scene()
    crisp = np.rint(material.person_alpha(512) * 255).astype(np.uint8)
    assert matte_prior.reinforce(crisp, image, landmarks) is crisp


def test_a_float_matte_stays_float() -> None:
    image, truth, landmarks = scene()
    weak = (undecided(truth) / 255.0).astype(np.float32)
    made = matte_prior.reinforce(weak, image, landmarks)
    assert made.dtype == np.float32
    assert 0 <= made.min() <= made.max() <= 1


def test_the_same_matte_gives_the_same_answer() -> None:
    image, truth, landmarks = scene()
    weak = undecided(truth)
    first = matte_prior.reinforce(weak, image, landmarks)
    assert np.array_equal(first, matte_prior.reinforce(weak, image, landmarks))


def test_the_expected_shape_holds_head_and_shoulders_and_not_the_corners() -> None:
    _, _, landmarks = scene()
    shape = matte_prior.expected_shape(landmarks, (640, 640))
    x, y = np.rint(landmarks[2]).astype(int)
    assert shape[y, x] > 0.95
    assert shape[630, 320] > 0.9
    assert shape[5, 5] < 0.05
    assert shape[y, 20] < 0.05


def test_an_edge_of_hairs_width_is_left_to_the_network_while_a_leak_elsewhere_goes() -> None:
    image, truth, landmarks = scene()
    soft = cv2.GaussianBlur(truth, (0, 0), 2)
    leak = np.zeros_like(soft)
    cv2.ellipse(leak, (90, 330), (60, 120), 0, 0, 360, 0.7, -1)
    weak = cv2.resize(np.maximum(soft, leak), (512, 512), interpolation=cv2.INTER_AREA)
    given = np.asarray(np.rint(weak * 255), np.uint8)
    made = matte_prior.reinforce(given, image, landmarks)
    assert float(made[200:330, 40:100].mean()) < 0.3 * float(given[200:330, 40:100].mean())
    assert np.array_equal(made[:150, 300:], given[:150, 300:])
