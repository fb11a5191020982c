"""A studio-shaped repository through the real Triton and the real gateway.

Runs in the service's environment (no torch). Every model is loaded by the embedded server and
compared with ONNX Runtime called directly; then CreateHeadshot runs end to end. With random
weights the pixels are noise; shapes, contracts, scheduler, batching and cancellation are real.

    python -m export_scripts.studio.serve_check --repository studio_repository --json result.json
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
from headshot.api.gateway import run_gateway
from headshot.client import AsyncHeadshotClient, photo
from headshot.config import Settings
from headshot.deadline import Deadline
from headshot.errors import ModelContractError, ModelUnavailableError
from headshot.triton.client import InferenceClient
from headshot.triton.contracts import load_model_set
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import style_pb2
from numpy.typing import NDArray
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export_scripts.studio import serve_alternatives
from export_scripts.tensorrt.accuracy import random_inputs
from export_scripts.tensorrt.configs import Variant, read_config, write_config
from export_scripts.tensorrt.profiles import profiles

Arrays = dict[str, NDArray[np.generic]]
_FREE_SIDE = 64
# What Triton says of a configuration that is right but wants a GPU or a backend it has not.
_NO_DEVICE = ("unable to find backend library", "invalid or unsupported gpu", "no GPU", "KIND_GPU")


@dataclass
class Line:
    """One finding.

    Attributes:
        name: model, or what was run.
        holds: whether it is as it should be.
        detail: a figure or the error.
    """

    name: str
    holds: bool
    detail: str


def say(text: str) -> None:
    """Tell what goes on: some stages take minutes."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def wire_inputs(config: ModelConfig, rows: int) -> Arrays:
    """Make seeded inputs as they cross the wire, `rows` in the batch; scalars as [rows, 1]."""
    wanted = profiles(config)
    inputs = random_inputs(config, wanted)
    made: Arrays = {}
    for tensor in config.input:
        array = inputs[tensor.name]
        if -1 in tensor.dims:
            array = array[:, :_FREE_SIDE, : _FREE_SIDE + 8]
        array = np.concatenate([array] * rows)[:rows]
        made[tensor.name] = array.reshape(rows, 1) if tensor.HasField("reshape") else array
    return made


def run_directly(graph: Path, config: ModelConfig, inputs: Arrays) -> Arrays:
    """Run the graph in ONNX Runtime, without any server."""
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    scalars = {tensor.name for tensor in config.input if tensor.HasField("reshape")}
    feed = {name: a.reshape(-1) if name in scalars else a for name, a in inputs.items()}
    return dict(zip(names, session.run(names, feed), strict=True))


def model_folders(repository: Path) -> list[Path]:
    """Return the folders of a repository that hold a model, by name."""
    return sorted(path.parent for path in repository.glob("*/config.pbtxt"))


async def check_models(client: InferenceClient, repository: Path) -> list[Line]:
    """Send every model a batch and compare the answers with the runtime called directly."""
    lines = []
    for folder in model_folders(repository):
        config = read_config(folder / "config.pbtxt")
        inputs = wire_inputs(config, rows=min(2, config.max_batch_size))
        reference = run_directly(folder / "1" / "model.onnx", config, inputs)
        try:
            result = await client.infer(config.name, inputs, deadline=Deadline.after(120))
            worst = max(
                float(np.abs(result.outputs[name].astype(np.float64) - wanted).max())
                for name, wanted in reference.items()
            )
            shapes = all(result.outputs[n].shape == a.shape for n, a in reference.items())
            lines.append(Line(config.name, shapes and worst <= _tolerance(reference), f"{worst:g}"))
        except Exception as error:
            lines.append(Line(config.name, False, f"{type(error).__name__}: {error}"))
    return lines


def _tolerance(reference: Arrays) -> float:
    # The same library and file, but another thread count: the order of sums differs.
    levels = any(array.dtype == np.uint8 for array in reference.values())
    scale = max(float(np.abs(array.astype(np.float64)).max()) for array in reference.values())
    return 1.0 if levels else 2e-3 * max(scale, 1.0)


async def check_contract(client: InferenceClient) -> Line:
    """Read the models the way the gateway does at start."""
    try:
        found = await load_model_set(client, Deadline.after(30))
    except Exception as error:
        return Line("contract", False, str(error))
    extra = ", ".join(sorted(found.optional))
    return Line("contract", found.profile == "studio", f"{found.profile}; optional: {extra}")


def headshot_request(picture: bytes, strength: float, steps: int = 0) -> pb.CreateHeadshotRequest:
    """Make a request for one small file, verified or not: random weights know nobody."""
    rendition = style_pb2.RenditionSpec(
        name="check", width=256, height=256, format=style_pb2.IMAGE_FORMAT_PNG
    )
    options = pb.HeadshotOptions(
        renditions=[rendition], candidates=2, strength=strength, steps=steps, seed=5,
        allow_unverified=True, no_degrade=True,
    )  # fmt: skip
    return pb.CreateHeadshotRequest(photos=[photo(picture)], options=options)


async def check_headshot(triton: EmbeddedTriton, picture: bytes, strength: float) -> list[Line]:
    """Run CreateHeadshot through the gateway: alone, again, among others, and cancelled."""
    settings = Settings(
        port=0, operations_port=0, triton_url=(triton.grpc_url,), triton_facts=triton.facts_dir,
        default_deadline_s=500, max_deadline_s=600, max_regenerations=0,
    )  # fmt: skip
    async with (
        run_gateway(settings) as gateway,
        AsyncHeadshotClient(gateway.address, timeout_s=580) as client,
    ):
        request = headshot_request(picture, strength)
        started = time.perf_counter()
        first = await client.create_headshot(request)
        seconds = time.perf_counter() - started
        lines = [
            Line(
                "CreateHeadshot",
                bool(first.renditions) and first.profile == "studio",
                f"{seconds:.1f} s, {len(first.candidates)} candidates, profile {first.profile}",
            )
        ]
        again = await client.create_headshot(request)
        lines.append(_same("the same request again", first, [again]))
        before = await executions(triton)
        beside = await asyncio.gather(*(client.create_headshot(request) for _ in range(3)))
        rows, runs = (late - early for late, early in zip(
            await executions(triton), before, strict=True
        ))  # fmt: skip
        lines.append(_same("among three at once", first, beside))
        lines.append(Line("step-level batching", runs < rows, f"{rows} steps in {runs} executions"))
        lines.append(await _cancelled(triton, client, headshot_request(picture, 1.0, steps=20)))
    return lines


def _same(name: str, first: pb.HeadshotResult, others: list[pb.HeadshotResult]) -> Line:
    wanted = np.asarray(Image.open(io.BytesIO(first.renditions[0].data)), np.int16)
    worst = max(
        int(
            np.abs(
                np.asarray(Image.open(io.BytesIO(o.renditions[0].data)), np.int16) - wanted
            ).max()
        )
        for o in others
    )
    return Line(name, worst <= 1, f"largest difference {worst} of 255")


async def executions(triton: EmbeddedTriton) -> tuple[int, int]:
    """Return rows and executions of the denoiser so far, from Triton's own statistics."""
    async with grpc.aio.insecure_channel(triton.grpc_url) as channel:
        return await _executions(service_pb2_grpc.GRPCInferenceServiceStub(channel))


async def _executions(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> tuple[int, int]:
    answer = await stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name="denoiser"))
    found = answer.model_stats[0]
    return found.inference_count, found.execution_count


async def _cancelled(
    triton: EmbeddedTriton, client: AsyncHeadshotClient, request: pb.CreateHeadshotRequest
) -> Line:
    async with grpc.aio.insecure_channel(triton.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        before = (await _executions(stub))[0]
        call = client.stub.CreateHeadshot(request, timeout=300)
        async for response in call:
            if response.WhichOneof("event") == "progress":
                break
        at_cancel = (await _executions(stub))[0] - before
        call.cancel()
        await asyncio.sleep(2.0)
        after = (await _executions(stub))[0] - before
    # Each of the two candidates may have one step under way and send none after it.
    holds = after - at_cancel <= 4 and after < 40
    detail = f"{at_cancel} of 40 steps were done at the cancel, {after} in all"
    return Line("cancelled mid-denoise", holds, detail)


def borrow(repository: Path, compact: Path, names: list[str], out: Path) -> Path:
    """Copy a repository with some models taken from the compact profile, named studio there.

    A random detector finds no face and a random matte no person: to go through the pipeline with
    a photo, the check needs the ones that work. They have the same contract.
    """
    shutil.copytree(repository, out)
    for name in names:
        shutil.rmtree(out / name)
        shutil.copytree(compact / name, out / name)
        config = read_config(out / name / "config.pbtxt")
        config.parameters["profile"].string_value = "studio"
        write_config(config, out / name / "config.pbtxt")
    return out


async def run(repository: Path, *, contract: bool = True) -> list[Line]:
    """Start the server on the repository and check models and, perhaps, the gateway's contract."""
    say(f"Triton loads the {len(model_folders(repository))} models of {repository.name}")
    lines: list[Line] = []
    config = EmbeddedTritonConfig(repository, ready_timeout_s=300)
    async with (
        EmbeddedTriton(config) as triton,
        InferenceClient([triton.grpc_url]) as client,
    ):
        lines += await check_models(client, repository)
        if contract:
            lines.append(await check_contract(client))
    return lines


def check_refusals(repository: Path, alternatives: Path) -> list[Line]:
    """Check that a ControlNet whose map the gateway cannot draw is refused, by name, at start."""
    lines = []
    for folder in model_folders(alternatives):
        if folder.name.startswith("denoiser-") and folder.name not in serve_alternatives.SECOND:
            reason = serve_alternatives.refusal(repository, alternatives, folder.name)
            lines.append(Line(f"{folder.name} refused", "control" in reason, reason or "accepted"))
    return lines


async def check_second_stack(
    repository: Path, alternatives: Path, compact: Path, picture: bytes, strength: float
) -> list[Line]:
    """Run CreateHeadshot on the stack of alternatives."""
    with tempfile.TemporaryDirectory(prefix="studio-") as scratch:
        names = serve_alternatives.SECOND
        second = serve_alternatives.swap(repository, alternatives, names, Path(scratch) / "second")
        mixed = borrow(second, compact, ["face_detector"], Path(scratch) / "mixed")
        lines = [
            Line(f"{line.name}, alternatives", line.holds, line.detail)
            for line in await run_headshot(mixed, picture, strength)
        ]
        try:
            serve_alternatives.check_models(serve_alternatives.descriptions(second))
        except ModelContractError as error:
            return [*lines, Line("contract, alternatives", False, error.message)]
        return [*lines, Line("contract, alternatives", True, ", ".join(names))]


async def check_variants(repository: Path) -> list[Line]:
    """Let Triton read every runtime variant; load those that this machine has a runtime for."""
    lines = []
    for variant in Variant:
        say(f"Triton reads the variant {variant}")
        config = EmbeddedTritonConfig(repository, config_name=variant, ready_timeout_s=300)
        try:
            async with EmbeddedTriton(config):
                lines.append(Line(f"variant {variant}", True, "loaded"))
        except ModelUnavailableError as error:
            # Read, but no such device or backend here: that is all this machine can tell.
            known = any(text in str(error) for text in _NO_DEVICE)
            holds = known and variant is not Variant.ORT_CPU
            lines.append(Line(f"variant {variant}", holds, f"read, not loaded: {error}"[:160]))
    return lines


async def run_headshot(repository: Path, picture: bytes, strength: float) -> list[Line]:
    """Start the server on the repository and run CreateHeadshot."""
    say(f"CreateHeadshot on {repository.name}: alone, again, among others, cancelled")
    lines: list[Line] = []
    config = EmbeddedTritonConfig(repository, ready_timeout_s=300)
    async with EmbeddedTriton(config) as triton:
        try:
            lines += await check_headshot(triton, picture, strength)
        except Exception as error:
            lines.append(Line("CreateHeadshot", False, f"{type(error).__name__}: {error}"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    lines.append(Line("peak memory of the largest process", True, f"{peak:.2f} GiB"))
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Check a repository; 1 when something does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--photo", type=Path, help="run CreateHeadshot on this photo, too")
    parser.add_argument("--strength", type=float, default=0.3)
    parser.add_argument(
        "--borrow",
        action="append",
        default=[],
        help="models to take from the compact repository for CreateHeadshot",
    )
    parser.add_argument("--compact", type=Path, default=Path("model_repository"))
    parser.add_argument(
        "--alternatives", type=Path, help="load these, and run a second stack made of them"
    )
    parser.add_argument("--variants", action="store_true", help="read configs/*.pbtxt, too")
    parser.add_argument("--json", type=Path, help="write the findings here")
    options = parser.parse_args(arguments)
    lines = asyncio.run(run(options.repository))
    if options.variants:
        lines += asyncio.run(check_variants(options.repository))
    if options.photo:
        with tempfile.TemporaryDirectory(prefix="studio-") as scratch:
            mixed = borrow(
                options.repository, options.compact, options.borrow, Path(scratch) / "repository"
            )
            picture = options.photo.read_bytes()
            lines += asyncio.run(run_headshot(mixed, picture, options.strength))
    if options.alternatives:
        lines += asyncio.run(run(options.alternatives, contract=False))
        lines += check_refusals(options.repository, options.alternatives)
        if options.photo:
            lines += asyncio.run(
                check_second_stack(
                    options.repository, options.alternatives, options.compact,
                    options.photo.read_bytes(), options.strength,
                )
            )  # fmt: skip
    for line in lines:
        print(f"{'ok ' if line.holds else 'BAD'} {line.name:<36} {line.detail}")
    if options.json:
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=2))
    return 0 if all(line.holds for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
