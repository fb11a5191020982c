"""What the export says of bfloat16: measured or not, and in figures that can be too large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="training environment only: requirements/train.txt")

from export_scripts import export
from export_scripts.export import Report, build_graph, report_table
from export_scripts.networks import denoiser, face_detector
from export_scripts.onnx_tools import Tolerance
from export_scripts.registry import model

MEASURED = Report("m", 1, 1, 1e-4, 1e-4, 1e-3, Tolerance())


def test_the_table_says_where_bfloat16_was_not_measured() -> None:
    assert report_table([MEASURED]).rstrip().endswith("ok")
    unseen = report_table([replace(MEASURED, bf16_error=None)]).rstrip()
    assert "not measured here" in unseen
    assert unseen.endswith("ok in float32")
    assert report_table([replace(MEASURED, bf16_error=1.0)]).rstrip().endswith("OUTSIDE")


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_counts_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(export, "computes_bfloat16", lambda: native)
    _, report = build_graph(model("upscaler"))
    assert (report.bf16_error is not None) is native
    assert report.within


def faces(score: float, shift: float) -> list[np.ndarray]:
    boxes, scores = np.full((2, 64, 4), 100.0), np.full((2, 64), 0.5)
    landmarks = np.full((2, 64, 5, 2), 120.0)
    scores[:, 0] = score
    landmarks[1, 0] += shift
    boxes[:, 1:] += 300 * shift  # rows that change places
    return [boxes, scores, landmarks]


def test_a_detectors_best_face_may_move_by_pixels_and_no_more() -> None:
    exact = faces(0.98, 0)
    limit = face_detector.TOLERANCE["bf16"]
    assert face_detector.bf16_error(faces(0.979, 1.2), exact) <= limit
    assert face_detector.bf16_error(faces(0.98, 4.0), exact) > limit
    assert face_detector.bf16_error(faces(0.95, 0), exact) > limit
    assert face_detector.bf16_error(faces(float("nan"), 0), exact) == float("inf")


def test_a_denoisers_velocity_is_compared_in_its_own_unit() -> None:
    exact = [np.full((1, 192, 80, 80), 3e-3, np.float16)]
    limit = denoiser.TOLERANCE["bf16"]
    assert denoiser.bf16_error([exact[0] + np.float16(1e-3)], exact) <= limit
    assert denoiser.bf16_error([exact[0] + np.float16(2e-2)], exact) > limit
    assert denoiser.bf16_error([np.full_like(exact[0], np.nan)], exact) == float("inf")
