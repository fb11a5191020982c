"""Runtime variants of a model's config.pbtxt, chosen by Triton's `--model-config-name`.

The config.pbtxt of a model is the one source of its contract. What differs between runtimes
(backend, file, device, runtime parameters, how long a GPU waits for a batch) is derived here and
written to `configs/<variant>.pbtxt`; tensors, batches and the gateway's parameters stay as they
are.

    python -m export_scripts.tensorrt.configs --repository model_repository [--check]
"""

from __future__ import annotations

import argparse
import sys
from enum import StrEnum
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

# Parameters that belong to one runtime and mean nothing, or an error, to another.
RUNTIME_PARAMETERS = {
    "openvino": {
        "CPU_THREADS_NUM", "CPU_THROUGHPUT_STREAMS", "ENFORCE_BF16", "INTER_OP_THREAD_COUNT",
        "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "NUM_STREAMS", "PERFORMANCE_HINT",
        "SKIP_OV_DYNAMIC_BATCHSIZE", "ENABLE_BATCH_PADDING", "RESHAPE_IO_LAYERS",
    },
    "onnxruntime": {
        "intra_op_thread_count", "inter_op_thread_count", "execution_mode", "enable_mem_arena",
        "session.use_device_allocator_for_initializers", "memory.enable_memory_arena_shrinkage",
    },
}  # fmt: skip
_GPU_WARM_BATCHES = (1,)
# On a GPU a batch of four takes the time of two rows, so it is worth waiting for; on a CPU its rows
# are inferences of their own, and a short wait for what was sent together is enough.
_GPU_QUEUE_US = {"denoiser": 2000, "matting": 2000}
_GPU_QUEUE_US_ELSE = 1000
_DEFAULT_SIDE = 256


class Variant(StrEnum):
    """Name of a variant: the file's stem, and what `--model-config-name` takes."""

    TENSORRT = "tensorrt"
    ORT_GPU = "onnxruntime-gpu"
    ORT_CPU = "onnxruntime-cpu"


def read_config(path: Path) -> ModelConfig:
    """Read a config.pbtxt.

    Raises:
        google.protobuf.text_format.ParseError: not Triton's schema; the message has the line.
    """
    return text_format.Parse(path.read_text("utf-8"), ModelConfig())


def derive(base: ModelConfig, variant: Variant) -> ModelConfig:
    """Return the configuration of one runtime variant.

    Args:
        base: the model's own configuration.
        variant: where it is to run.

    Returns:
        A copy: same tensors, batches and parameters, other runtime.
    """
    config = ModelConfig()
    config.CopyFrom(base)
    for name in set().union(*RUNTIME_PARAMETERS.values()):
        config.parameters.pop(name, None)
    config.ClearField("instance_group")
    config.ClearField("optimization")
    config.ClearField("platform")
    group = config.instance_group.add(count=1)
    if variant is Variant.TENSORRT:
        config.backend = "tensorrt"
        config.default_model_filename = "model.plan"
        group.kind = model_config_pb2.ModelInstanceGroup.KIND_GPU
        config.optimization.cuda.graphs = _fixed_sizes(config)
        config.optimization.cuda.output_copy_stream = True
    else:
        config.backend = "onnxruntime"
        config.default_model_filename = "model.onnx"
        if variant is Variant.ORT_GPU:
            group.kind = model_config_pb2.ModelInstanceGroup.KIND_GPU
        else:
            group.kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
    if variant is not Variant.ORT_CPU:
        _warm(config)
        if config.HasField("dynamic_batching"):
            queue = config.dynamic_batching
            least = _GPU_QUEUE_US.get(base.name, _GPU_QUEUE_US_ELSE)
            queue.max_queue_delay_microseconds = max(queue.max_queue_delay_microseconds, least)
    return config


def write_config(config: ModelConfig, path: Path, header: str = "") -> None:
    """Write a configuration as text, with a comment on top."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(config, header), "utf-8")


def render(config: ModelConfig, header: str = "") -> str:
    """Return the text of a configuration; the same configuration always gives the same text."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    return comment + text_format.MessageToString(config)


def write_variants(model: Path, *, check: bool = False) -> list[Path]:
    """Write `configs/*.pbtxt` of one model folder.

    Args:
        model: folder with a config.pbtxt.
        check: write nothing, only compare.

    Returns:
        The files that were missing or stale.
    """
    base = read_config(model / "config.pbtxt")
    stale = []
    for variant in Variant:
        path = model / "configs" / f"{variant}.pbtxt"
        text = render(derive(base, variant), _header(variant))
        if not path.is_file() or path.read_text("utf-8") != text:
            stale.append(path)
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, "utf-8")
    return stale


def _header(variant: Variant) -> str:
    return (
        f"Derived from ../config.pbtxt for --model-config-name {variant}; do not edit:\n"
        "python -m export_scripts.tensorrt.configs --repository <folder>"
    )


def _fixed_sizes(config: ModelConfig) -> bool:
    # CUDA graphs are captured for fixed shapes; a model with free sizes would capture each.
    return all(size != -1 for tensor in config.input for size in tensor.dims)


def _warm(config: ModelConfig) -> None:
    config.ClearField("model_warmup")
    side = (
        int(config.parameters["profile_opt"].string_value or _DEFAULT_SIDE)
        if ("profile_opt" in config.parameters)
        else _DEFAULT_SIDE
    )
    for batch in _GPU_WARM_BATCHES:
        sample = config.model_warmup.add(name=f"zeros_{batch}", batch_size=batch)
        for tensor in config.input:
            entry = sample.inputs[tensor.name]
            entry.data_type = tensor.data_type
            entry.dims.extend(side if size == -1 else size for size in tensor.dims)
            entry.zero_data = True


def main(arguments: list[str] | None = None) -> int:
    """Write or check the variants of every model of a repository; 1 when a check finds stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    options = parser.parse_args(arguments)
    stale: list[Path] = []
    for model in sorted(options.repository.iterdir()):
        if (model / "config.pbtxt").is_file():
            stale += write_variants(model, check=options.check)
    for path in stale:
        print(f"{'stale' if options.check else 'wrote'} {path}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
