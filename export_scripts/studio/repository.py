"""Writing the studio model repository: graphs, config.pbtxt and the runtime variants."""

from __future__ import annotations

import shutil
from pathlib import Path

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export_scripts.studio.onnx_export import ExportError, export
from export_scripts.studio.spec import Port, Precision, StudioModel
from export_scripts.tensorrt.configs import read_config, write_config, write_variants
from export_scripts.tensorrt.versions import served

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
    model: StudioModel,
    repository: Path,
    precision: Precision,
    source_sha256: str = "",
    exported: Path | None = None,
    version: int = 1,
) -> Path:
    """Export one model into a repository, with its configurations.

    Args:
        model: what to export; its name is the folder's.
        repository: the model repository.
        precision: arithmetic of the graph.
        source_sha256: see `model_config`.
        exported: a version folder with the graph already in it, copied instead of exporting.
        version: of the model. The first one writes the configuration; a later one must fit it.
            What is served now stays so until another version is pinned
            (export_scripts.tensorrt.versions).

    Returns:
        The path of model.onnx.

    Raises:
        ExportError: a later version with other tensors or parameters than the first.
    """
    folder = repository / model.name
    header = f"Written by export_scripts.studio; weights: {', '.join(model.sources) or 'random'}"
    if version > 1:
        joined = _joined(
            read_config(folder / "config.pbtxt"), model_config(model, precision, source_sha256)
        )
        if not joined.HasField("version_policy"):
            joined.version_policy.specific.versions.extend(served(folder))
    if exported is None:
        path = export(model, folder / str(version), precision)
    else:
        shutil.copytree(exported, folder / str(version), dirs_exist_ok=True)
        path = folder / str(version) / "model.onnx"
    config = joined if version > 1 else model_config(model, precision, source_sha256)
    write_config(config, folder / "config.pbtxt", header)
    write_variants(folder)
    return path


def _joined(shared: ModelConfig, wanted: ModelConfig) -> ModelConfig:
    # All versions share one configuration. Precision is the newest graph's, which the engine check
    # reads; sources are all of them, since the licence mode follows from the strictest.
    joined = ModelConfig()
    joined.CopyFrom(shared)
    joined.parameters["precision"].string_value = wanted.parameters["precision"].string_value
    hashes: dict[str, None] = {}
    for config in (shared, wanted):
        if "source_sha256" in config.parameters:
            hashes |= dict.fromkeys(config.parameters["source_sha256"].string_value.split(","))
    if hashes:
        joined.parameters["source_sha256"].string_value = ",".join(hashes)
        wanted.parameters["source_sha256"].string_value = ",".join(hashes)
    compared = ModelConfig()
    compared.CopyFrom(joined)
    compared.ClearField("version_policy")
    if compared != wanted:
        raise ExportError(
            f"{wanted.name}: this version has other tensors or parameters than those before it: it "
            "belongs into a repository of its own, with a gateway of its own"
        )
    return joined


def _tensor(entry: model_config_pb2.ModelInput | model_config_pb2.ModelOutput, port: Port) -> None:
    entry.name = port.name
    entry.data_type = _TYPES[port.dtype]
    if port.dims:
        entry.dims.extend(port.dims)
    else:
        # One scalar a row: [batch, 1] on the wire, [batch] in the graph.
        entry.dims.append(1)
        entry.reshape.SetInParent()
