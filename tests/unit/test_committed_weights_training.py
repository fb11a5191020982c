"""The served graphs are the committed weights: neither can change without the other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("safetensors", reason="training environment only: requirements/train.txt")

from export_scripts.export import build_graph
from export_scripts.onnx_tools import run_openvino
from export_scripts.registry import COMPACT, ROOT, Model


@pytest.mark.parametrize("entry", COMPACT, ids=lambda entry: entry.name)
def test_the_served_graph_is_what_the_committed_weights_export_to(entry: Model) -> None:
    graph, report = build_graph(entry)
    assert report.within
    network = entry.network()
    inputs = network.example_inputs(2)
    feeds = {n: t.numpy() for n, t in zip(network.INPUT_NAMES, inputs, strict=True)}
    served = run_openvino(ROOT / "model_repository" / entry.name / "1" / "model.onnx", feeds, "f32")
    for ours, rebuilt in zip(served, run_openvino(graph, feeds, "f32"), strict=True):
        np.testing.assert_allclose(
            ours.astype(np.float32), rebuilt.astype(np.float32), rtol=1e-3, atol=1e-3
        )
