"""The committed model_repository against what the gateway and Triton rely on, without a server."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from headshot.triton.contracts import check_models
from headshot.triton.model_config import describe
from tritonclient.grpc import model_config_pb2

from tests.conftest import MODELS


def _config(folder: Path, name: str = "config.pbtxt") -> model_config_pb2.ModelConfig:
    text = (folder / name).read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.fixture(params=MODELS)
def folder(request: pytest.FixtureRequest, model_repository: Path) -> Path:
    """Each of the five models' folders in turn."""
    return model_repository / str(request.param)


def test_the_five_models_fit_the_gateway_and_each_other(model_repository: Path) -> None:
    models = check_models({name: describe(_config(model_repository / name)) for name in MODELS})
    assert models.profile == "compact"


def test_a_config_is_complete_for_nvidias_native_backend(folder: Path) -> None:
    config = _config(folder)
    assert config.name == folder.name
    assert config.backend in ("openvino", "onnxruntime")
    assert config.default_model_filename == "model.onnx"
    assert config.max_batch_size > 0
    assert [group.kind for group in config.instance_group] == [
        model_config_pb2.ModelInstanceGroup.KIND_CPU
    ]


def test_a_queue_has_nothing_that_lets_triton_forget_a_request(folder: Path) -> None:
    # With priorities, timeouts or a limit its batcher does not look ahead, and what comes while the
    # only instance is busy may lie unseen for half a second.
    variants = [f"configs/{path.name}" for path in folder.glob("configs/*.pbtxt")]
    for name in ("config.pbtxt", *variants):
        batching = _config(folder, name).dynamic_batching
        assert batching.max_queue_delay_microseconds > 0
        assert batching.priority_levels == 0
        assert batching.default_queue_policy == model_config_pb2.ModelQueuePolicy()
        assert not batching.priority_queue_policy


def test_a_network_has_the_tensors_of_its_config(folder: Path) -> None:
    config = _config(folder)
    graph = onnx.load(folder / "1" / "model.onnx", load_external_data=False).graph
    weights = {entry.name for entry in graph.initializer}
    inputs = {entry.name: entry for entry in graph.input if entry.name not in weights}
    outputs = {entry.name: entry for entry in graph.output}
    for entries, declared in ((inputs, config.input), (outputs, config.output)):
        assert entries.keys() == {entry.name for entry in declared}
        for entry in declared:
            shape = entries[entry.name].type.tensor_type.shape.dim
            dims = [-1 if side.dim_param else side.dim_value for side in shape]
            sides = list(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
            # An exporter may leave an output's sides open, never an input's.
            open_sides = declared is config.output
            assert len(dims) == 1 + len(sides), entry.name
            for found, wanted in zip(dims, [-1, *sides], strict=True):
                assert found == wanted or (open_sides and found == -1), entry.name
