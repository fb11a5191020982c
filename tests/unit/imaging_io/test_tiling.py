"""Tiles for the upscaler."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from headshot.imaging.tiling import covered, paste, stitch, strips, tiles
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = st.integers(1, 150)


@settings(max_examples=80, deadline=None)
@given(h=SIZES, w=SIZES, tile=st.integers(20, 90), overlap=st.integers(0, 9))
def test_output_parts_cover_every_pixel_once(h: int, w: int, tile: int, overlap: int) -> None:
    counts = np.zeros((h, w), dtype=int)
    for t in tiles(h, w, tile, overlap):
        counts[t.top : t.bottom, t.left : t.right] += 1
        assert 0 <= t.y0 < t.y1 <= h
        assert (t.y1 - t.y0, t.x1 - t.x0) == (min(tile, h), min(tile, w))
        # Away from the picture's own edges the margin is whole.
        assert t.top == 0 or t.top - t.y0 >= overlap
        assert t.bottom == h or t.y1 - t.bottom >= overlap
        assert t.left == 0 or t.left - t.x0 >= overlap
        assert t.right == w or t.x1 - t.right >= overlap
    assert bool((counts == 1).all())


def local_range(image: np.ndarray) -> np.ndarray:
    """Largest minus smallest level within 6 pixels, in each channel."""
    window = np.ones((13, 13), dtype=np.uint8)
    return np.asarray(cv2.morphologyEx(image, cv2.MORPH_GRADIENT, window))


@pytest.mark.parametrize("shape", [(512, 512), (300, 511), (97, 400), (64, 64)])
def test_stitched_tiles_equal_the_whole_picture_in_every_pixel(shape: tuple[int, int]) -> None:
    # A stand-in for the network: exact, of receptive radius 6, then four times larger.
    def network(image: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(local_range(image), 4, axis=0), 4, axis=1)

    image = np.asarray(skimage.data.astronaut())[: shape[0], : shape[1]]
    plan = tiles(*shape, 128, 6)
    made = stitch(plan, [network(np.ascontiguousarray(t.cut(image))) for t in plan], 4)
    np.testing.assert_array_equal(made, network(image))


def test_a_margin_that_is_too_small_would_show() -> None:
    image = np.asarray(skimage.data.astronaut())
    plan = tiles(512, 512, 128, 3)
    made = stitch(plan, [local_range(np.ascontiguousarray(t.cut(image))) for t in plan])
    assert bool((made != local_range(image)).any())


def test_a_tile_that_is_all_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="no inside"):
        tiles(100, 100, 32, 16)


def test_missing_and_wrong_parts_are_refused() -> None:
    plan = tiles(50, 50, 32, 4)
    part = np.zeros((32, 32, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="shorter"):
        stitch(plan, [part] * (len(plan) - 1))
    with pytest.raises(ValueError, match="wanted"):
        stitch(plan, [part] * len(plan), 2)


@pytest.mark.parametrize("rows", [7, 20, 64])
def test_strips_cover_what_is_needed_with_their_margins(rows: int) -> None:
    needed = np.zeros((61, 83), bool)
    needed[9:30, 40:52] = True
    needed[30:55, 12:80] = True
    plan = strips(needed, rows, 3, step=8)
    inside = covered(plan, needed.shape)
    assert not (needed & ~inside).any()
    assert inside.mean() < 1
    image = np.random.default_rng(6).integers(0, 256, (61, 83, 3), np.uint8)
    out = np.zeros((122, 166, 3), np.uint8)
    paste(plan, [tile.cut(image).repeat(2, axis=0).repeat(2, axis=1) for tile in plan], 2, out)
    whole = image.repeat(2, axis=0).repeat(2, axis=1)
    twice = inside.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(out[twice], whole[twice])
    assert not out[~twice].any()
    for tile in plan:
        assert tile.y0 == max(0, tile.top - 3)
        assert tile.y1 == min(61, tile.bottom + 3)
        assert tile.x0 == max(0, tile.left - 3)
        assert tile.x1 == min(83, tile.right + 3)


def test_nothing_needed_is_no_strip() -> None:
    assert strips(np.zeros((40, 40), bool), 16, 3) == []
