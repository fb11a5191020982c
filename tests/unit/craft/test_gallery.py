"""The gallery's plan: the whole product once, and any beginning of it an even sample."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path
from typing import Any

GALLERY = Path(__file__).resolve().parents[3] / "scripts" / "gallery.py"
PHOTOS = [Path(f"{index}.jpg") for index in range(15)]
STYLES = [f"style-{index}" for index in range(7)]
BACKGROUNDS = [f"background-{index}" for index in range(9)]


def cells() -> list[Any]:
    return list(runpy.run_path(str(GALLERY))["rounds"](PHOTOS, STYLES, BACKGROUNDS))


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
