"""Writing the studio model repository: graphs, config.pbtxt and the runtime variants."""

from __future__ import annotations

from pathlib import Path

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export_scripts.studio.onnx_export import export
from export_scripts.studio.spec import Port, Precision, StudioModel
from export_scripts.tensorrt.configs import write_config, write_variants

_TYPES = {
    "UINT8": model_config_pb2.TYPE_UINT8,
    "INT32": model_config_pb2.TYPE_INT32,
    "FP16": model_config_pb2.TYPE_FP16,
    "FP32": model_config_pb2.TYPE_FP32,
}
_QUEUE = 64
# Longest wait in a queue where a request names none of its own, in microseconds.
_QUEUE_TIMEOUT_US = 600_000_000


def model_config(model: StudioModel, precision: Precision, source_sha256: str = "") -> ModelConfig:
    """Return the configuration of a model for ONNX Runtime on a CPU.

    Args:
        model: the model.
        precision: arithmetic of its graph, told to operators in the parameters.
        source_sha256: hashes of the checkpoints it was made from, comma-separated; the gateway
            tells the licence mode by them.
    """
    config = ModelConfig(
        name=model.name,
        backend="onnxruntime",
        default_model_filename="model.onnx",
        max_batch_size=model.max_batch,
    )
    for port in model.inputs:
        _tensor(config.input.add(), port)
    for port in model.outputs:
        _tensor(config.output.add(), port)
    group = config.instance_group.add(count=1)
    group.kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
    batching = config.dynamic_batching
    if model.queue_us:
        batching.max_queue_delay_microseconds = model.queue_us
    # As in the compact models: later denoise steps and verification go first.
    batching.priority_levels = 2
    batching.default_priority_level = 2
    policy = batching.default_queue_policy
    policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
    policy.default_timeout_microseconds = _QUEUE_TIMEOUT_US
    policy.allow_timeout_override = True
    policy.max_queue_size = _QUEUE
    parameters = {
        "profile": "studio",
        "precision": precision.value,
        "source_sha256": source_sha256,
        "opt_batch": str(model.opt_batch),
    } | model.parameters
    for key, value in sorted(parameters.items()):
        if value:
            config.parameters[key].string_value = value
    return config


def write_model(
    model: StudioModel, repository: Path, precision: Precision, source_sha256: str = ""
) -> Path:
    """Export one model into a repository as version 1, with its configurations.

    Returns:
        The path of model.onnx.
    """
    folder = repository / model.name
    path = export(model, folder / "1", precision)
    header = f"Written by export_scripts.studio; weights: {', '.join(model.sources) or 'random'}"
    write_config(model_config(model, precision, source_sha256), folder / "config.pbtxt", header)
    write_variants(folder)
    return path


def _tensor(entry: model_config_pb2.ModelInput | model_config_pb2.ModelOutput, port: Port) -> None:
    entry.name = port.name
    entry.data_type = _TYPES[port.dtype]
    if port.dims:
        entry.dims.extend(port.dims)
    else:
        # One scalar a row: [batch, 1] on the wire, [batch] in the graph.
        entry.dims.append(1)
        entry.reshape.SetInParent()
