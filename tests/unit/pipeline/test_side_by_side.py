"""On how many threads a person is cut out changes no pixel."""

from __future__ import annotations

import numpy as np
import pytest
from headshot.imaging.parts import SideBySide, one_by_one
from headshot.imaging.tone import ToneSpec
from headshot.pipeline import rendering
from headshot.pipeline.workers import Workers

from tests.unit.craft import material


def cut(side_by_side: SideBySide) -> rendering.Person:
    image, _ = material.astronaut_portrait()
    alpha = np.asarray(np.rint(material.person_alpha() * 255), np.uint8)
    frame = material.astronaut_frame()
    matte = rendering.decide_matte(image, alpha, frame, side_by_side=side_by_side)
    return rendering.cut_person(
        image, alpha, frame, ToneSpec(), "light", image, matte, side_by_side
    )


@pytest.mark.parametrize("threads", [1, 3])
async def test_a_person_is_cut_out_the_same_on_any_number_of_threads(threads: int) -> None:
    alone = cut(one_by_one)
    workers = Workers(threads)
    try:
        shared = cut(workers.side_by_side)
    finally:
        workers.close()
    for name in ("colours", "scene", "alpha"):
        assert np.array_equal(getattr(alone, name), getattr(shared, name)), name
    assert (shared.grain, shared.tones) == (alone.grain, alone.tones)
    assert np.array_equal(shared.look.table, alone.look.table)
