"""The runtime variants of every committed model follow from its config.pbtxt."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export_scripts.tensorrt.configs import (
    RUNTIME_PARAMETERS,
    Variant,
    derive,
    main,
    read_config,
    write_variants,
)

REPOSITORY = Path(__file__).parents[3] / "model_repository"
MODELS = sorted(path.parent.name for path in REPOSITORY.glob("*/config.pbtxt"))
GPU = model_config_pb2.ModelInstanceGroup.KIND_GPU
CPU = model_config_pb2.ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize("model", MODELS)
def test_committed_variants_are_current(model: str) -> None:
    stale = write_variants(REPOSITORY / model, check=True)
    assert not stale, "run python -m export_scripts.tensorrt.configs --repository model_repository"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variant", list(Variant))
def test_a_variant_keeps_the_contract_and_changes_the_runtime(model: str, variant: Variant) -> None:
    base = read_config(REPOSITORY / model / "config.pbtxt")
    config = read_config(REPOSITORY / model / "configs" / f"{variant}.pbtxt")
    assert list(config.input) == list(base.input)
    assert list(config.output) == list(base.output)
    queue, waits = config.dynamic_batching, base.dynamic_batching.max_queue_delay_microseconds
    if variant is not Variant.ORT_CPU:
        # A GPU's batches are worth waiting for.
        assert queue.max_queue_delay_microseconds >= 1000 > waits
        queue.max_queue_delay_microseconds = waits
    assert queue == base.dynamic_batching
    assert config.max_batch_size == base.max_batch_size > 0
    runtime = set().union(*RUNTIME_PARAMETERS.values())
    kept = {key: value for key, value in base.parameters.items() if key not in runtime}
    assert dict(config.parameters) == kept
    backend, file, kind = {
        Variant.TENSORRT: ("tensorrt", "model.plan", GPU),
        Variant.ORT_GPU: ("onnxruntime", "model.onnx", GPU),
        Variant.ORT_CPU: ("onnxruntime", "model.onnx", CPU),
    }[variant]
    assert (config.backend, config.default_model_filename) == (backend, file)
    assert [group.kind for group in config.instance_group] == [kind]


def test_a_gpu_variant_is_warmed_with_whole_shapes_and_a_free_one_gets_no_cuda_graph() -> None:
    text = """
    name: "toy" backend: "openvino" max_batch_size: 4
    input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
    output [ { name: "out" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
    parameters: { key: "profile_opt" value: { string_value: "320" } }
    parameters: { key: "CPU_THREADS_NUM" value: { string_value: "2" } }
    """
    config = derive(text_format.Parse(text, ModelConfig()), Variant.TENSORRT)
    assert list(config.model_warmup[0].inputs["image"].dims) == [320, 320, 3]
    assert not config.optimization.cuda.graphs
    assert "CPU_THREADS_NUM" not in config.parameters
    fixed = text_format.Parse(text.replace("-1, -1", "64, 64"), ModelConfig())
    assert derive(fixed, Variant.TENSORRT).optimization.cuda.graphs


def test_check_fails_on_a_stale_variant_and_writing_mends_it(tmp_path: Path) -> None:
    model = tmp_path / MODELS[0]
    model.mkdir()
    (model / "config.pbtxt").write_text((REPOSITORY / MODELS[0] / "config.pbtxt").read_text())
    assert main(["--repository", str(tmp_path), "--check"]) == 1
    assert main(["--repository", str(tmp_path)]) == 0
    assert main(["--repository", str(tmp_path), "--check"]) == 0
