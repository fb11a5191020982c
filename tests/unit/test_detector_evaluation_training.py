"""The London figures tell people of the training apart from people it left out."""

from __future__ import annotations

import pytest

pytest.importorskip("tqdm", reason="training environment only: requirements/train.txt")

from export_scripts.evaluation.face_detector import Tally, london


def test_londons_landmarks_are_told_for_held_out_people_by_themselves() -> None:
    held_out = Tally(photos=2, found=2, errors=[3.0, 5.0])
    trained_on = Tally(photos=8, found=7, errors=[1.0] * 7)
    found, own, others = london(held_out, trained_on)
    assert (found.name, found.value) == ("London found (10 photos)", pytest.approx(90))
    assert "held-out people (2 photos)" in own.name
    assert own.value == pytest.approx(4.0)
    assert "training photos (7 photos)" in others.name
    assert others.value == pytest.approx(1.0)


def test_a_set_without_held_out_photos_tells_no_figure_for_them() -> None:
    assert [metric.unit for metric in london(Tally(), Tally(1, 1, [2.0]))] == [
        "%",
        "% of eye distance",
    ]
