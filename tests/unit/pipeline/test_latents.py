"""The lossless codec folds and unfolds exactly, in the order of torch's pixel_unshuffle."""

from __future__ import annotations

import numpy as np
from headshot.pipeline.latents import from_half, pixel_shuffle, pixel_unshuffle, to_half


def test_a_picture_survives_the_round_trip_bit_for_bit():
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    assert np.array_equal(pixel_shuffle(pixel_unshuffle(image, 8), 8), image)


def test_channels_are_colour_then_row_then_column_of_the_block():
    image = np.zeros((16, 16, 3), np.uint8)
    image[8 + 3, 0 + 5, 2] = 255
    latent = pixel_unshuffle(image, 8)
    assert latent.shape == (192, 2, 2)
    assert latent[2 * 64 + 3 * 8 + 5, 1, 0] == 1
    assert (latent == -1).sum() == latent.size - 1


def test_values_beyond_the_range_are_clipped_not_wrapped():
    latent = np.full((192, 1, 1), 1.4, np.float32)
    assert (pixel_shuffle(latent, 8) == 255).all()


def test_half_precision_is_numpys_both_ways():
    latent = (np.random.default_rng(3).standard_normal((192, 10, 6)) * 3).astype(np.float32)
    half = to_half(latent)
    assert half.dtype == np.float16
    assert np.array_equal(half, latent.astype(np.float16))
    assert np.array_equal(from_half(half), half.astype(np.float32))


def test_half_precision_is_written_where_it_is_wanted():
    latent = np.random.default_rng(4).standard_normal((192, 10, 6)).astype(np.float32)
    shown = np.zeros((1, 192, 10, 6), np.float16)
    to_half(latent, shown[0])
    assert np.array_equal(shown[0], latent.astype(np.float16))


def test_what_lies_outside_the_levels_is_clipped():
    latent = np.full((192, 2, 2), -1.7, np.float32)
    assert pixel_shuffle(latent, 8).max() == 0
    assert pixel_shuffle(-latent, 8).min() == 255
