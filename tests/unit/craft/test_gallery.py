"""The gallery's plan: the whole product once, and any beginning of it an even sample."""

from __future__ import annotations

import runpy
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from headshot.imaging.parts import one_by_one
from headshot.pipeline.workers import Workers

GALLERY = Path(__file__).resolve().parents[3] / "scripts" / "gallery.py"
PHOTOS = [Path(f"{index}.jpg") for index in range(15)]
STYLES = [f"style-{index}" for index in range(7)]
BACKGROUNDS = [f"background-{index}" for index in range(9)]


MODULE = runpy.run_path(str(GALLERY))


def cells() -> list[Any]:
    return list(MODULE["rounds"](PHOTOS, STYLES, BACKGROUNDS))


def test_every_combination_is_made_once_after_the_defaults() -> None:
    plan = cells()
    assert [cell.photo for cell in plan[:15]] == PHOTOS
    assert all(cell.style is None and len(cell.crops) == 5 for cell in plan[:15])
    made = Counter((cell.photo, cell.style, cell.background) for cell in plan[15:])
    assert len(made) == 15 * 7 * 9
    assert set(made.values()) == {1}


def test_the_first_rounds_show_every_style_background_and_crop() -> None:
    early = cells()[15:75]
    assert {cell.style for cell in early} == set(STYLES)
    assert {cell.background for cell in early} == set(BACKGROUNDS)
    assert len({cell.crops for cell in early}) == 4
    shares = Counter(cell.style for cell in early)
    assert max(shares.values()) <= 2 * min(shares.values())


def test_the_whole_product_is_every_combination_once_in_all_crops() -> None:
    plan = list(MODULE["whole"](PHOTOS, STYLES, BACKGROUNDS))
    assert len(plan) == 15 * (1 + 7 * 9)
    made = Counter((cell.photo, cell.style, cell.background) for cell in plan)
    assert set(made.values()) == {1}
    assert all(len(cell.crops) >= 4 for cell in plan)
    changes = sum(a.photo != b.photo for a, b in pairwise(plan))
    assert changes == 14  # one photo after the other, so that little need be remembered


async def test_what_is_remembered_is_the_answer_to_equal_inputs_only() -> None:
    asked = []

    async def infer(model: str, inputs: dict[str, Any], **_: Any) -> float:
        asked.append(model)
        return float(inputs["image"].sum())

    memory = MODULE["Memory"]()
    remembered = memory.inference(infer)
    one, other = np.ones((2, 2), np.uint8), np.full((2, 2), 2, np.uint8)
    answers = [
        await remembered(model, {"image": image}, deadline=None)
        for model, image in (("a", one), ("a", one.copy()), ("a", other), ("b", one), ("a", one))
    ]
    assert answers == [4, 4, 8, 4, 4]
    assert asked == ["a", "a", "b"]
    memory.forget()
    await remembered("a", {"image": one}, deadline=None)
    assert len(asked) == 4


def test_a_function_is_remembered_whatever_spreads_its_work_over_threads() -> None:
    asked = []

    def doubled(numbers: np.ndarray, side_by_side: Any) -> np.ndarray:
        asked.append(len(numbers))
        made = np.zeros_like(numbers)

        def fill() -> None:
            made[:] = 2 * numbers

        side_by_side([fill])
        return made

    remembered = MODULE["Memory"]().function(doubled)
    workers = Workers(1)
    try:
        first = remembered(np.arange(4), workers.side_by_side)
        assert remembered(np.arange(4), one_by_one) is first
        assert remembered(np.arange(5), workers.side_by_side).tolist() == [0, 2, 4, 6, 8]
    finally:
        workers.close()
    assert first.tolist() == [0, 2, 4, 6]
    assert asked == [4, 5]
