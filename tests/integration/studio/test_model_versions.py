"""A later version lies beside the earlier ones and changes nothing until it is pinned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the export environment has torch")

from export_scripts.studio.onnx_export import ExportError  # noqa: E402
from export_scripts.studio.repository import write_model  # noqa: E402
from export_scripts.studio.spec import Precision  # noqa: E402
from export_scripts.studio.stack import random_stack  # noqa: E402
from export_scripts.tensorrt.configs import Variant, read_config  # noqa: E402
from export_scripts.tensorrt.versions import available, pin, served  # noqa: E402


def test_a_later_version_is_not_served_before_it_is_pinned(tmp_path: Path) -> None:
    model = random_stack(names=("style_prompts",))[0]
    folder = tmp_path / "style_prompts"
    write_model(model, tmp_path, Precision.FLOAT32, "a" * 64)
    first = (folder / "1" / "model.onnx").read_bytes()
    write_model(model, tmp_path, Precision.FLOAT32, "b" * 64, version=2)
    assert (folder / "1" / "model.onnx").read_bytes() == first
    assert (available(folder), served(folder)) == ([1, 2], [1])
    pin(folder, [2])
    assert served(folder) == [2]
    variant = read_config(folder / "configs" / f"{Variant.TENSORRT}.pbtxt")
    assert list(variant.version_policy.specific.versions) == [2]
    # The licence of both counts.
    sources = read_config(folder / "config.pbtxt").parameters["source_sha256"].string_value
    assert sources == f"{'a' * 64},{'b' * 64}"
    write_model(model, tmp_path, Precision.FLOAT32, "b" * 64, version=3)
    assert (available(folder), served(folder)) == ([1, 2, 3], [2])


def test_a_version_with_other_parameters_is_refused(tmp_path: Path) -> None:
    model = random_stack(names=("style_prompts",))[0]
    write_model(model, tmp_path, Precision.FLOAT32)
    other = replace(model, parameters=model.parameters | {"styles": "others"})
    with pytest.raises(ExportError, match="other tensors or parameters"):
        write_model(other, tmp_path, Precision.FLOAT32, version=2)
    assert available(tmp_path / "style_prompts") == [1]
