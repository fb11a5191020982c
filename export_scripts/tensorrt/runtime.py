"""The one module that imports TensorRT: platform facts, the builder call, running a plan.

Nothing here can run on a machine without the TensorRT library and a GPU. Everything that can is
in the modules beside it, which this one only serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export_scripts.tensorrt.manifest import Options, Platform
from export_scripts.tensorrt.profiles import InputProfile


class TensorRTUnavailableError(RuntimeError):
    """The TensorRT library or a GPU is missing here."""


class BuildError(RuntimeError):
    """TensorRT refused the network; the message is its own."""


def _library() -> Any:
    try:
        import tensorrt  # noqa: PLC0415 - the one place
    except ImportError as error:
        raise TensorRTUnavailableError(
            "the TensorRT library is not installed here; build the plans in the Triton or TensorRT "
            "container, or run the trtexec commands of --dry-run there"
        ) from error
    return tensorrt


def platform() -> Platform:
    """Return the GPU and the TensorRT version of this machine.

    Raises:
        TensorRTUnavailableError: no library or no GPU.
    """
    trt = _library()
    import torch  # noqa: PLC0415 - only for the GPU's name and its memory

    if not torch.cuda.is_available():
        raise TensorRTUnavailableError("no GPU is visible to CUDA")
    major, minor = torch.cuda.get_device_capability()
    return Platform(torch.cuda.get_device_name(), f"{major}.{minor}", trt.__version__)


def build(
    graph: Path, wanted: tuple[InputProfile, ...], options: Options, timing: bytes
) -> tuple[bytes, bytes]:
    """Build a plan.

    Args:
        graph: model.onnx, its external data beside it.
        wanted: shapes of every input.
        options: how to build.
        timing: timing cache of earlier builds, empty for none.

    Returns:
        The plan and the new timing cache.

    Raises:
        TensorRTUnavailableError: no library here.
        BuildError: the parser or the builder failed.
    """
    trt = _library()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = 0
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if options.typing == "strong" and strong is not None:
        flags |= 1 << int(strong)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BuildError(f"{graph}: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.builder_optimization_level = options.optimization_level
    for flag in options.flags:
        # Gone in TensorRT 11: asking for weak typing there is an error, and says so.
        config.set_flag(getattr(trt.BuilderFlag, flag.upper()))
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    cache = config.create_timing_cache(timing)
    config.set_timing_cache(cache, ignore_mismatch=False)
    profile = builder.create_optimization_profile()
    for item in wanted:
        profile.set_shape(item.name, item.smallest, item.usual, item.largest)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"{graph}: the builder gave no plan; its log has the reason")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def run(plan: bytes, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Run a plan once on the GPU.

    Raises:
        TensorRTUnavailableError: no library here.
        BuildError: the plan does not load or run.
    """
    trt = _library()
    import torch  # noqa: PLC0415 - owns the GPU memory

    logger = trt.Logger(trt.Logger.WARNING)
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError("the plan does not load here")
    context = engine.create_execution_context()
    tensors: dict[str, Any] = {}
    for name, array in inputs.items():
        tensors[name] = torch.from_numpy(np.ascontiguousarray(array)).cuda()
        context.set_input_shape(name, tuple(array.shape))
    outputs = [
        name
        for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
    ]
    for name in outputs:
        dtype = trt.nptype(engine.get_tensor_dtype(name))
        empty = np.empty(tuple(context.get_tensor_shape(name)), dtype)
        tensors[name] = torch.from_numpy(empty).cuda()
    for name, tensor in tensors.items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.current_stream()
    if not context.execute_async_v3(stream.cuda_stream):
        raise BuildError("the plan does not run")
    stream.synchronize()
    return {name: tensors[name].cpu().numpy() for name in outputs}
