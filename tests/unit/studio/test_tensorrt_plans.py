"""TensorRT without TensorRT: profiles, manifests, staleness, locks, commands, accuracy."""

from __future__ import annotations

import importlib.util
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export_scripts.tensorrt import accuracy, build, runtime
from export_scripts.tensorrt.build import Target, ensure_plan, targets, typed
from export_scripts.tensorrt.command import trtexec
from export_scripts.tensorrt.files import build_lock, write_atomically
from export_scripts.tensorrt.manifest import (
    SUFFIX,
    Options,
    Platform,
    read_manifest,
    source_sha256,
    stale_reason,
)
from export_scripts.tensorrt.profiles import InputProfile, ProfileError, profiles

HERE = Platform("NVIDIA L4", "8.9", "11.1.0")
CONFIG = """
name: "toy"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "sample" data_type: TYPE_FP16 dims: [ 4, 64, 64 ] },
        { name: "timestep" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } } ]
output [ { name: "prediction" data_type: TYPE_FP16 dims: [ 4, 64, 64 ] } ]
"""


def config(extra: str = "", text: str = CONFIG) -> ModelConfig:
    return text_format.Parse(text + extra, ModelConfig())


def write_graph(path: Path, value: float = 1.0, *, external: bool = False) -> None:
    weight = numpy_helper.from_array(np.full((4, 64, 64), value, np.float16), "w")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["sample", "w"], ["prediction"])],
        "toy",
        [helper.make_tensor_value_info("sample", TensorProto.FLOAT16, ["batch", 4, 64, 64])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT16, ["batch", 4, 64, 64])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(
        model, path, save_as_external_data=external, location="model.onnx.data", size_threshold=0
    )


@pytest.fixture
def target(tmp_path: Path) -> Target:
    folder = tmp_path / "repository" / "toy"
    write_graph(folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(CONFIG)
    return targets(tmp_path / "repository", Options())[0]


class Recorder:
    """A builder that writes what it was asked for, instead of a plan."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, bytes]] = []

    def __call__(
        self, graph: Path, wanted: tuple[InputProfile, ...], options: Options, timing: bytes
    ) -> tuple[bytes, bytes]:
        self.calls.append((graph, timing))
        return f"plan {len(self.calls)} {wanted} {options}".encode(), timing + b"+"


def test_a_row_scalar_has_the_batch_alone_as_its_shape() -> None:
    sample, timestep = profiles(config())
    assert sample == InputProfile("sample", (1, 4, 64, 64), (4, 4, 64, 64), (8, 4, 64, 64))
    assert timestep == InputProfile("timestep", (1,), (4,), (8,))


@pytest.mark.parametrize(
    ("extra", "usual"),
    [
        ("dynamic_batching { preferred_batch_size: [ 2, 6 ] }", 6),
        ('parameters: { key: "opt_batch" value: { string_value: "3" } }', 3),
        ('parameters: { key: "opt_batch" value: { string_value: "99" } }', 8),
        ("", 4),
    ],
)
def test_the_usual_batch_comes_from_the_configuration(extra: str, usual: int) -> None:
    assert profiles(config(extra))[1].usual == (usual,)


def test_free_sides_come_from_the_parameters_and_must_be_in_order() -> None:
    text = CONFIG.replace("[ 4, 64, 64 ]", "[ -1, -1, 3 ]")
    sides = "".join(
        f'parameters: {{ key: "profile_{key}" value: {{ string_value: "{side}" }} }}'
        for key, side in (("min", 32), ("opt", 512), ("max", 768))
    )
    sample = profiles(config(sides, text))[0]
    assert sample == InputProfile("sample", (1, 32, 32, 3), (4, 512, 512, 3), (8, 768, 768, 3))
    with pytest.raises(ProfileError, match="not in order"):
        profiles(config(sides.replace('"768"', '"64"'), text))


def test_a_model_without_a_batch_axis_is_refused() -> None:
    with pytest.raises(ProfileError, match="batch axis"):
        profiles(config(text=CONFIG.replace("max_batch_size: 8", "max_batch_size: 0")))


def test_a_plan_is_built_once_and_then_current(target: Target, tmp_path: Path) -> None:
    builder, cache = Recorder(), tmp_path / "timing"
    assert ensure_plan(target, HERE, cache, builder) == "no plan"
    assert ensure_plan(target, HERE, cache, builder) is None
    assert len(builder.calls) == 1
    manifest = read_manifest(target.plan.with_name("model.plan" + SUFFIX))
    assert manifest is not None
    assert manifest.platform == HERE
    assert manifest.profiles == target.profiles
    assert manifest.options == target.options


def test_the_timing_cache_of_one_build_goes_into_the_next(target: Target, tmp_path: Path) -> None:
    builder, cache = Recorder(), tmp_path / "timing"
    ensure_plan(target, HERE, cache, builder)
    ensure_plan(target, HERE, cache, builder, force=True)
    assert [timing for _, timing in builder.calls] == [b"", b"+"]
    assert cache.read_bytes() == b"++"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t, p: (write_graph(t.graph, 2.0), (t, p))[1], "the graph changed"),
        (lambda t, p: (t, replace(p, tensorrt="11.2.0")), "built with TensorRT 11.1.0"),
        (lambda t, p: (t, replace(p, compute_capability="9.0")), "compute capability 8.9"),
        (
            lambda t, p: (replace(t, options=replace(t.options, optimization_level=5)), p),
            "other build options",
        ),
        (lambda t, p: (replace(t, profiles=t.profiles[:1]), p), "other profiles"),
        (lambda t, p: (t.plan.write_bytes(b"x"), (t, p))[1], "not the one of its manifest"),
        (lambda t, p: (t.plan.unlink(), (t, p))[1], "no plan"),
        (
            lambda t, p: (t.plan.with_name("model.plan" + SUFFIX).write_text("{"), (t, p))[1],
            "no manifest",
        ),
    ],
)
def test_a_stale_plan_is_built_again(target: Target, tmp_path: Path, change, reason: str) -> None:
    builder, cache = Recorder(), tmp_path / "timing"
    ensure_plan(target, HERE, cache, builder)
    changed, platform = change(target, HERE)
    found = ensure_plan(changed, platform, cache, builder)
    assert found is not None
    assert reason in found
    assert len(builder.calls) == 2


def test_compatible_plans_survive_a_minor_version_and_another_gpu(
    target: Target, tmp_path: Path
) -> None:
    options = Options(version_compatible=True, hardware_compatible=True)
    target = replace(target, options=options)
    ensure_plan(target, HERE, tmp_path / "timing", Recorder())
    source = source_sha256(target.graph)

    def reason(platform: Platform) -> str | None:
        return stale_reason(target.plan, source, platform, options, target.profiles)

    assert reason(Platform("NVIDIA H100", "9.0", "11.4.0")) is None
    assert "TensorRT" in str(reason(Platform("NVIDIA H100", "9.0", "12.0.0")))


def test_external_data_is_part_of_the_source_hash(tmp_path: Path) -> None:
    graph = tmp_path / "1" / "model.onnx"
    write_graph(graph, external=True)
    before = source_sha256(graph)
    data = graph.with_name("model.onnx.data")
    data.write_bytes(b"\x01" + data.read_bytes()[1:])
    assert source_sha256(graph) != before
    data.unlink()
    with pytest.raises(FileNotFoundError):
        source_sha256(graph)


def _count(folder: str, rounds: int) -> None:
    path = Path(folder) / "count"
    for _ in range(rounds):
        with build_lock(Path(folder)):
            seen = int(path.read_text()) if path.exists() else 0
            write_atomically(path, str(seen + 1).encode())


def test_the_lock_holds_between_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(str(tmp_path), 40)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "count").read_text() == "120"


def test_a_failed_write_leaves_the_old_file_and_no_scratch(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text, not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_typing_follows_the_tensorrt_version() -> None:
    weak = Options(flags=("fp16",))
    assert typed(weak, "11.0.1", "float32") == Options(typing="strong")
    assert typed(weak, "10.13.0", "float32") == Options(typing="weak", flags=("fp16",))
    assert typed(weak, "10.13.0", "float16") == Options(typing="strong")
    assert typed(Options(), "10.13.0", "float32") == Options(typing="strong")


def test_trtexec_gets_every_shape_and_option(tmp_path: Path) -> None:
    wanted = profiles(config())
    options = Options(version_compatible=True, hardware_compatible=True, optimization_level=4)
    command = trtexec(Path("m.onnx"), Path("m.plan"), wanted, options, timing_cache=Path("t"))
    assert "--minShapes=sample:1x4x64x64,timestep:1" in command
    assert "--optShapes=sample:4x4x64x64,timestep:4" in command
    assert "--maxShapes=sample:8x4x64x64,timestep:8" in command
    assert "--versionCompatible" in command
    assert "--hardwareCompatibilityLevel=ampere+" in command
    assert "--builderOptimizationLevel=4" in command
    assert "--timingCacheFile=t" in command
    assert "--stronglyTyped" not in command
    assert "--stronglyTyped" in trtexec(Path("m"), Path("p"), wanted, Options(), major=10)
    weak = Options(typing="weak", flags=("fp16",))
    assert "--fp16" in trtexec(Path("m"), Path("p"), wanted, weak, major=10)


def test_the_newest_version_of_a_model_is_built(target: Target, tmp_path: Path) -> None:
    for version in ("2", "10"):
        write_graph(tmp_path / "repository" / "toy" / version / "model.onnx")
    found = targets(tmp_path / "repository", Options(), ("toy",))
    assert [item.graph.parent.name for item in found] == ["10"]
    with pytest.raises(FileNotFoundError, match="nothing"):
        targets(tmp_path / "repository", Options(), ("nothing",))


def test_comparison_counts_levels_for_pictures_and_parts_for_the_rest() -> None:
    picture = np.full((1, 2, 2, 3), 100, np.uint8)
    vector = np.array([[1.0, -2.0]], np.float32)
    reference = {"image": picture, "embedding": vector}
    near = {"image": picture + np.uint8(3), "embedding": vector * np.float32(1.0005)}
    far = {"image": picture + np.uint8(4), "embedding": vector * np.float32(1.1)}
    assert [item.holds for item in accuracy.compare(reference, near, "float32")] == [True, True]
    assert [item.holds for item in accuracy.compare(reference, far, "float32")] == [False, False]
    assert accuracy.compare(reference, far, "bfloat16")[1].relative == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_graph_to_compare_with_runs_in_every_precision(tmp_path: Path, precision: str) -> None:
    kind = {"float32": TensorProto.FLOAT, "bfloat16": TensorProto.BFLOAT16}[precision]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["a"], to=kind),
            helper.make_node("MatMul", ["a", "a"], ["b"]),
            helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
        ],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
    )
    path = tmp_path / "model.onnx"
    opset = [helper.make_opsetid("", 22)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    x = np.array([[1.001, 0.0], [0.0, 3.0]], np.float32)
    found = accuracy.run_graph(path, {"x": x}, precision)["y"]
    assert found[0, 0] == pytest.approx(1.0 if precision == "bfloat16" else 1.001**2, abs=1e-6)


@pytest.mark.parametrize("flags", [["--bf16"], ["--fp16", "--bf16"]])
def test_flags_of_tensorrt_10_reach_the_command(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    arguments = ["--repository", str(tmp_path / "repository"), "--dry-run"]
    assert build.main([*arguments, "--tensorrt-major", "10", *flags]) == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in flags)
    assert "--stronglyTyped" not in shown


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"embedding": np.zeros((2, 2), np.float32)},
        {"embedding": np.zeros((1, 2), np.float16)},
    ],
)
def test_comparison_refuses_another_shape_or_type(answer: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="embedding is"):
        accuracy.compare({"embedding": np.zeros((1, 2), np.float32)}, answer, "float32")


def test_a_plan_that_gives_nan_does_not_hold() -> None:
    reference = {"embedding": np.ones((1, 2), np.float32)}
    nan = {"embedding": np.full((1, 2), np.nan, np.float32)}
    assert not accuracy.compare(reference, nan, "float16")[0].holds


def test_random_inputs_have_the_usual_shapes_and_the_wire_types() -> None:
    wanted = profiles(config())
    inputs = accuracy.random_inputs(config(), wanted)
    assert {name: (a.shape, a.dtype.name) for name, a in inputs.items()} == {
        "sample": ((4, 4, 64, 64), "float16"),
        "timestep": ((4,), "float32"),
    }
    again = accuracy.random_inputs(config(), wanted)
    assert all(np.array_equal(inputs[name], again[name]) for name in inputs)


def test_a_dry_run_prints_profiles_and_commands_without_tensorrt(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["--repository", str(tmp_path / "repository"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "trtexec --onnx=" in shown
    assert "(1, 4, 64, 64)  (4, 4, 64, 64)  (8, 4, 64, 64)" in shown
    assert not target.plan.exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is here")
def test_without_the_library_the_error_says_what_to_do(target: Target) -> None:
    with pytest.raises(runtime.TensorRTUnavailableError, match="trtexec"):
        runtime.build(target.graph, target.profiles, target.options, b"")
