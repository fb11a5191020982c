from __future__ import annotations

import cv2
import numpy as np
import pytest
from headshot.imaging import flecks, matte

from tests.unit.craft import material

STRIPES = ((20, 130, 60), (215, 205, 40), (40, 60, 160))


def flag() -> material.U8:
    """Return a wall hung with a striped flag."""
    wall = material.plain((70, 100, 120))
    for left in range(0, 640, 40):
        wall[:, left : left + 40] = STRIPES[left // 40 % 3]
    return wall


def scene(wall: material.U8) -> tuple[material.U8, material.F32]:
    """Return the astronaut before a wall, and her true matte at the network's size."""
    person, _ = material.astronaut_portrait(640)
    truth = material.person_alpha(640, strands=True)
    small = cv2.resize(truth, (512, 512), interpolation=cv2.INTER_AREA)
    return material.over(person, truth, wall), np.asarray(small, np.float32)


def with_scraps(truth: material.F32) -> material.F32:
    """Return the matte with bits of wall: beside the head, and in the corner on the shoulder."""
    spoilt = truth.copy()
    solid = np.flatnonzero(truth[190] > 0.5)
    cv2.ellipse(spoilt, (int(solid[0]) - 3, 190), (9, 16), 0, 0, 360, 1.0, -1)
    cv2.ellipse(spoilt, (int(solid[-1]) + 2, 150), (7, 12), 0, 0, 360, 0.6, -1)
    return spoilt


def as_bytes(alpha: material.F32) -> material.U8:
    return np.asarray(np.rint(alpha * 255), np.uint8)


def test_scraps_of_a_flag_go_and_the_person_stays() -> None:
    image, truth = scene(flag())
    spoilt = with_scraps(truth)
    made = flecks.remove(as_bytes(spoilt), image).astype(np.float32) / 255
    scraps = (spoilt > 0.5) & (truth < 0.05)
    assert scraps.sum() > 250
    assert made[scraps].mean() < 0.15
    inside = cv2.erode(np.asarray(truth > 0.95, np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert made[inside].min() > 0.95


def test_what_was_taken_off_does_not_come_back_where_the_matte_follows_colours() -> None:
    image, truth = scene(flag())
    spoilt = as_bytes(with_scraps(truth))
    kept = flecks.remove(spoilt.copy(), image)
    decided = flecks.around(spoilt, kept)
    scraps = cv2.resize(np.asarray((spoilt > 128) & (truth < 0.05), np.uint8), (640, 640)) > 0
    held = matte.draw(matte.fit(kept, image, decided=decided), image)
    free = matte.draw(matte.fit(kept, image), image)
    assert held[scraps].mean() < 0.1
    assert held[scraps].mean() < 0.8 * free[scraps].mean()
    far = cv2.resize(decided, (640, 640)) == 0
    assert np.abs(held - free)[far].mean() < 1e-3


def test_hair_keeps_its_strands() -> None:
    image, truth = scene(flag())
    made = flecks.remove(as_bytes(truth), image).astype(np.float32) / 255
    assert np.abs(made - truth).mean() < 0.004


def test_a_band_in_the_hair_that_no_background_has_stays() -> None:
    image, truth = scene(flag())
    rows = np.flatnonzero((truth > 0.5).any(axis=1))
    place = (256, int(rows[0]) + 14)
    spot = np.zeros_like(truth)
    cv2.ellipse(spot, place, (26, 9), 0, 0, 360, 1.0, -1)
    large = cv2.resize(spot, (640, 640)) > 0.5
    image[large] = (190, 20, 120)
    made = flecks.remove(as_bytes(np.maximum(truth, spot)), image)
    assert made[spot > 0.5].mean() > 250


def test_before_a_plain_wall_nothing_is_touched() -> None:
    image, truth = scene(material.plain((200, 200, 196)))
    alpha = as_bytes(truth)
    assert flecks.remove(alpha, image) is alpha


def test_a_glint_inside_the_person_is_no_hole() -> None:
    image, truth = scene(flag())
    image[90:120, 300:340] = STRIPES[1]
    made = flecks.remove(as_bytes(truth), image)
    assert made[78:92, 244:268].min() == 255


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_the_kind_of_matte_is_kept(kind: type) -> None:
    image, truth = scene(flag())
    spoilt = with_scraps(truth)
    alpha = as_bytes(spoilt) if kind is np.uint8 else spoilt
    made = flecks.remove(alpha, image)
    assert made.dtype == kind
    assert made.shape == alpha.shape


def test_a_picture_without_background_comes_back_as_it_is() -> None:
    image, _ = scene(flag())
    alpha = np.full((512, 512), 255, np.uint8)
    assert flecks.remove(alpha, image) is alpha


def test_a_pearl_of_the_walls_grey_stays_where_the_network_is_certain_of_it_twice() -> None:
    stripes = ((130, 160, 130), (30, 40, 60))
    wall = material.plain(stripes[0])
    for left in range(0, 640, 40):
        wall[:, left : left + 40] = stripes[left // 40 % 2]
    image, truth = scene(wall)
    edge = int(np.flatnonzero(truth[190] > 0.5)[0])
    pearl = np.zeros_like(truth)
    cv2.circle(pearl, (edge, 190), 6, 1.0, -1)
    image[cv2.resize(pearl, (640, 640)) > 0.5] = stripes[0]
    alpha = as_bytes(np.maximum(truth, pearl))
    there = cv2.erode(pearl, np.ones((5, 5), np.uint8)) > 0.5
    assert flecks.remove(alpha, image)[there].mean() < 100
    assert flecks.remove(alpha, image, as_bytes(0.8 * truth))[there].mean() < 100
    opinion = np.asarray(cv2.resize(alpha, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    assert flecks.remove(alpha, image, opinion)[there].mean() > 200


def test_a_strong_colour_of_a_flag_goes_however_certain_the_network_is() -> None:
    image, truth = scene(flag())
    spoilt = with_scraps(truth)
    made = flecks.remove(as_bytes(spoilt), image, as_bytes(np.asarray(spoilt > 0.5, np.float32)))
    scraps = (spoilt > 0.5) & (truth < 0.05)
    assert made[scraps].mean() < 0.15 * 255


@pytest.mark.parametrize("worn", [False, True])
def test_a_vivid_spot_goes_although_its_colour_is_behind_only_elsewhere(worn: bool) -> None:
    """The whole end of a stripe lies under the matte; of a flower's colour it may be a petal."""
    red = (200, 20, 90)
    wall = material.plain((150, 150, 150))
    for left in range(0, 640, 80):
        wall[:, left : left + 40] = (70, 80, 90)
    wall[:60, 560:] = red
    image, truth = scene(wall)
    edge = int(np.flatnonzero(truth[190] > 0.5)[0])
    spot, flower = np.zeros_like(truth), np.zeros_like(truth)
    cv2.ellipse(spot, (edge - 2, 190), (4, 7), 0, 0, 360, 1.0, -1)
    cv2.ellipse(flower, (edge + 20, 160), (12, 8), 0, 0, 360, 1.0 if worn else 0.0, -1)
    image[cv2.resize(np.maximum(spot, flower), (640, 640)) > 0.5] = red
    alpha = as_bytes(np.maximum(truth, spot))
    made = flecks.remove(alpha, image, alpha)
    assert alpha[spot > 0.5].min() == 255
    if worn:
        assert made[spot > 0.5].mean() > 250
    else:
        assert made[spot > 0.5].mean() < 30
