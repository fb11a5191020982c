"""Portraits in few bytes, for the machine that trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import downscale_local_mean

pytest.importorskip("torch", reason="training environment only: requirements/train.txt")

from export_scripts.datasets.reduced import pack, unpack


def test_a_packed_portrait_comes_back_smaller_and_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", astronaut())
    pack(tmp_path / "a.npy", tmp_path / "a.avif", 2.0)
    unpack(tmp_path / "a.avif", tmp_path / "b.npy")
    picture = np.load(tmp_path / "b.npy")
    assert picture.dtype == np.uint8
    assert picture.shape == (256, 256, 3)
    expected = downscale_local_mean(astronaut(), (2, 2, 1))
    assert peak_signal_noise_ratio(expected.round().astype(np.uint8), picture) > 36
    assert (tmp_path / "a.avif").stat().st_size < astronaut().nbytes / 10
