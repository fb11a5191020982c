from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from headshot.imaging import fog, subject
from headshot.imaging.framing import FramingSpec, plan_portrait
from headshot.pipeline import rendering

from tests.unit.craft import material

SIDE = 512


def true_matte() -> material.F32:
    return np.asarray(material.person_alpha(SIDE, strands=False), np.float32)


def faded(truth: material.F32) -> material.U8:
    """Return what an unsure network says: shoulders that fade towards the bottom."""
    weak = cv2.GaussianBlur(truth, (0, 0), 2)
    weak[340:] *= np.linspace(1.0, 0.6, SIDE - 340, dtype=np.float32)[:, None]
    return np.asarray(np.rint(weak * 255), np.uint8)


def test_fading_shoulders_become_whole() -> None:
    truth = true_matte()
    weak = faded(truth)
    made = fog.decide(weak)
    below, inside = np.s_[400:], truth[400:] > 0.99
    assert weak[below][inside].mean() < 210
    assert made[below][inside].mean() > 250
    assert np.abs(made / 255.0 - truth).mean() < 0.4 * np.abs(weak / 255.0 - truth).mean()


def test_fog_that_is_less_than_likely_goes() -> None:
    given = np.zeros((SIDE, SIDE), np.uint8)
    given[:, 200:] = 255
    given[100:300, 20:120] = 90
    made = fog.decide(given)
    assert made[100:300, 20:120].max() < 10
    assert np.array_equal(made[:, 250:], given[:, 250:])


def test_a_bank_of_fog_that_is_unlikely_goes_with_its_likely_stripe() -> None:
    given = np.zeros((SIDE, SIDE), np.uint8)
    given[:, 200:] = 255
    given[100:300, 80:200] = 60
    given[100:300, 150:175] = 200
    given[350:450, 100:200] = 170
    made = fog.clear(given)
    assert made[105:295, 85:190].max() < 10
    assert np.array_equal(made[350:450, 110:], given[350:450, 110:])
    assert fog.clear(made) is made or np.abs(fog.clear(made).astype(int) - made).max() <= 1


def test_a_bank_that_seems_likely_goes_where_a_second_opinion_doubts_it() -> None:
    given = np.zeros((SIDE, SIDE), np.uint8)
    given[:, 200:] = 255
    given[100:300, 80:200] = 130
    given[350:450, 80:200] = 130
    other = given.copy()
    other[100:300, 80:200] = 40
    other[350:450, 80:200] = 90
    assert fog.clear(given) is given
    made = fog.clear(given, cv2.resize(other, (256, 256), interpolation=cv2.INTER_AREA))
    assert made[105:295, 85:190].max() < 10
    assert np.array_equal(made[350:450], given[350:450])


def test_an_unlikely_blotch_amid_a_likely_sleeve_is_no_gap_but_a_sure_gap_is() -> None:
    given = np.full((SIDE, SIDE), 255, np.uint8)
    given[:60] = 0
    given[200:400, 100:400] = 180
    given[280:310, 200:230] = 100
    gap = given.copy()
    gap[285:305, 205:225] = 0
    assert fog.decide(given)[280:310, 200:230].min() > 250
    assert fog.decide(gap)[287:303, 207:223].max() < 30


def test_a_larger_blotch_is_no_gap_only_where_likely_places_enclose_it() -> None:
    given = np.full((SIDE, SIDE), 255, np.uint8)
    given[:60] = 0
    given[150:300, 100:400], given[380:, 100:400] = 180, 180
    enclosed, at_the_border = np.s_[195:255, 220:280], np.s_[452:512, 220:280]
    given[enclosed], given[at_the_border] = 100, 100
    made = fog.decide(given)
    assert made[enclosed].min() > 250
    assert made[470:, 235:265].max() < 30


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_an_edge_of_hairs_width_is_left_to_the_network(sigma: float) -> None:
    soft = np.rint(cv2.GaussianBlur(true_matte(), (0, 0), sigma) * 255).astype(np.uint8)
    assert fog.decide(soft) is soft
    assert fog.clear(soft) is soft


def test_a_float_matte_stays_float_and_is_decided_alike() -> None:
    weak = faded(true_matte())
    made = fog.decide((weak / 255.0).astype(np.float32))
    assert made.dtype == np.float32
    assert np.abs(made * 255 - fog.decide(weak)).max() <= 1


def test_a_matte_of_another_shape_keeps_its_shape() -> None:
    weak = cv2.resize(faded(true_matte()), (384, 512))
    assert fog.decide(weak).shape == (512, 384)


def test_fog_of_the_backgrounds_colours_beside_the_head_is_background() -> None:
    person, landmarks = material.astronaut_portrait(640)
    truth = material.person_alpha(640, strands=False)
    wall = material.plain((40, 90, 130))
    wall[:, ::64], wall[:, 1::64] = (200, 190, 60), (200, 190, 60)
    wall[::48] = (150, 60, 50)
    image = material.over(person, truth, wall)
    leak = np.zeros_like(truth)
    cv2.ellipse(leak, (150, 200), (60, 120), 0, 0, 360, 0.7, -1)
    weak = np.maximum(cv2.GaussianBlur(truth, (0, 0), 2), cv2.GaussianBlur(leak, (0, 0), 12))
    small = np.rint(cv2.resize(weak, (512, 512), interpolation=cv2.INTER_AREA) * 255)
    box = np.concatenate([landmarks.min(0) - 60, landmarks.max(0) + 60])
    frame = plan_portrait(landmarks, box, (640, 640), FramingSpec(), canvas=640)
    frame = replace(frame, landmarks=np.asarray(landmarks, np.float32))
    matte = rendering.decide_matte(image, small.astype(np.uint8), frame)
    beside = np.s_[120:240, 80:130]
    assert small[beside].mean() > 120
    assert matte.rough[beside].mean() < 0.1


def test_a_photos_matte_lies_on_the_canvas_where_the_photo_does() -> None:
    photo = np.zeros((900, 1200), np.uint8)
    cv2.circle(photo, (700, 400), 180, 255, -1)
    alpha = cv2.resize(photo, (512, 384), interpolation=cv2.INTER_AREA)
    matrix = np.array([[0.8, 0.05, -200.0], [-0.05, 0.8, 30.0]])
    seen = subject.second_opinion(alpha, 1200, matrix, 640)
    wanted = cv2.resize(cv2.warpAffine(photo, matrix, (640, 640)), (256, 256), cv2.INTER_AREA)
    assert np.abs(seen.astype(int) - wanted).mean() < 1.5
