"""Control maps that the gateway makes for a controlled denoiser."""

from __future__ import annotations

import numpy as np
import pytest
from headshot.errors import ModelContractError
from headshot.pipeline.conditioning import control_map


def test_a_canny_map_has_edges_where_the_picture_has_them() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = 255
    found = control_map(picture, "canny")
    assert found.shape == (3, 64, 64)
    assert found.dtype == np.float16
    assert set(np.unique(found)) == {0.0, 1.0}
    assert found[:, :, 30:34].any(axis=2).all()
    assert not found[:, :, :28].any()
    assert not found[:, :, 36:].any()


@pytest.mark.parametrize("kind", ["pose", "depth", "segmentation", ""])
def test_a_map_that_needs_a_network_is_refused(kind: str) -> None:
    with pytest.raises(ModelContractError, match="cannot make"):
        control_map(np.zeros((64, 64, 3), np.uint8), kind)
