from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from export_scripts.datasets.snapshots import snapshot_root
from export_scripts.evaluate import main as evaluate_main
from export_scripts.metrics import Metric, table
from export_scripts.registry import COMPACT, model


def test_a_metric_passes_on_the_better_side_of_its_bar_and_on_the_bar() -> None:
    assert Metric("m", "accuracy", 98.0, "%", 98.0).passed is True
    assert Metric("m", "accuracy", 97.9, "%", 98.0).passed is False
    assert Metric("m", "error", 0.3, "", 0.4, "lower").passed is True
    assert Metric("m", "error", 0.5, "", 0.4, "lower").passed is False


def test_a_metric_without_a_bar_neither_passes_nor_fails() -> None:
    assert Metric("m", "size", 3.0).passed is None


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_figure_that_is_not_a_number_never_passes(better: str) -> None:
    assert Metric("m", "x", math.nan, "", 1.0, better).passed is False  # type: ignore[arg-type]


def test_the_table_marks_what_falls_short() -> None:
    text = table([Metric("m", "good", 2.0, "", 1.0), Metric("m", "bad", 0.5, "", 1.0)])
    lines = text.splitlines()
    assert lines[1].endswith("ok")
    assert lines[2].endswith("SHORT")


def test_the_registry_knows_five_models_and_refuses_others() -> None:
    assert {m.name for m in COMPACT} == {
        "face_detector",
        "identity_encoder",
        "denoiser",
        "matting",
        "upscaler",
    }
    with pytest.raises(KeyError):
        model("vae")


def test_evaluation_without_models_says_so_for_each_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path)
    status = evaluate_main(
        ["--data", folder, "--teachers", folder, "--repository", folder, "--no-benchmark"]
    )
    out = capsys.readouterr().out
    assert status == 1
    assert all(f"{m.name}: no model.onnx" in out for m in COMPACT)


def test_evaluation_without_data_or_teachers_says_which_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        evaluate_main([])
    assert "--data DIR is missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate_main(["--data", ".", "--model", "matting", "upscaler"])
    assert "--teachers DIR is missing, which is needed for matting\n" in capsys.readouterr().err


def test_a_benchmark_alone_needs_neither_data_nor_teachers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_main(["--benchmark-only", "--repository", str(tmp_path)]) == 0
    assert "batch 1" in capsys.readouterr().out


def test_snapshots_are_found_in_the_folder_itself_and_in_its_snapshots(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no fetched repositories"):
        snapshot_root(tmp_path)
    (tmp_path / "snapshots" / "owner+name" / "repo").mkdir(parents=True)
    assert snapshot_root(tmp_path) == tmp_path / "snapshots"
    assert snapshot_root(tmp_path / "snapshots") == tmp_path / "snapshots"


def test_a_figure_from_numpy_can_be_written_as_json() -> None:
    metric = Metric("m", "accuracy", np.float32(0.5), "", 1.0)  # type: ignore[arg-type]
    assert json.loads(json.dumps(metric.as_json()))["passed"] is False
