"""Starts the real `headshot serve` as a process of its own, watches its log, signals it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

from tests.integration.triton.tiny_repository import MODELS, build_repository

ROOT = Path(__file__).resolve().parents[2]
TRITON_CACHE = Path(os.environ.get("HEADSHOT_CACHE", ROOT / ".cache" / "triton"))
START_S = 240.0


def serving_repository(folder: Path) -> tuple[Path, list[str]]:
    """Return a complete model repository and the names of those that stand in.

    It is the committed one. Where one of its models is missing, a tiny network with the same
    tensors takes its place, so that faults can be tried without trained weights.
    """
    trained = ROOT / "model_repository"
    missing = [name for name in MODELS if not (trained / name / "1" / "model.onnx").is_file()]
    if not missing:
        return trained, []
    for name in MODELS:
        if name not in missing:
            shutil.copytree(trained / name, folder / name, dirs_exist_ok=True)
    build_repository(folder, models=missing)
    if "matting" in missing:
        _matte_an_ellipse(folder / "matting" / "1" / "model.onnx")
    return folder, missing


def _matte_an_ellipse(path: Path) -> None:
    """Write a matting network that sees head and shoulders in the middle of any picture.

    A random network finds nobody, and the service rightly refuses such a photo.
    """
    y, x = np.mgrid[0:512, 0:512].astype(np.float32) / 256 - 1
    distance = np.minimum(np.hypot(x / 0.35, (y + 0.25) / 0.5), np.hypot(x / 0.8, (y - 0.9) / 0.6))
    mask = np.clip((1.05 - distance) * 10, 0, 1) * 255
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["grey"], axes=[3], keepdims=1),
        helper.make_node("Mul", ["grey", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "mask"], ["levels"]),
        helper.make_node("Cast", ["levels"], ["alpha"], to=TensorProto.UINT8),
    ]
    kind, side = TensorProto.UINT8, [512, 512]
    graph = helper.make_graph(
        nodes,
        "ellipse",
        [helper.make_tensor_value_info("image", kind, ["batch", *side, 3])],
        [helper.make_tensor_value_info("alpha", kind, ["batch", *side, 1])],
        [
            numpy_helper.from_array(np.zeros((), np.float32), "zero"),
            numpy_helper.from_array(mask[None, :, :, None].astype(np.float32), "mask"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)


class Gateway:
    """A running `headshot serve`.

    Attributes:
        address: host:port of the gRPC port.
        operations_port: port of /metrics, /livez, /readyz.
        log: every line it wrote so far.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""
        self.operations_port = 0
        self.log: list[str] = []
        self._serving = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while raw := await self.process.stderr.readline():
            line = raw.decode(errors="replace").rstrip()
            self.log.append(line)
            if '"event": "serving"' in line:
                event = json.loads(line)
                self.address = event["address"]
                self.operations_port = event.get("operations_port", self.operations_port)
                self._serving.set()

    async def wait_serving(self) -> None:
        """Wait until it serves; RuntimeError with its last lines when it ends instead."""
        serving = asyncio.create_task(self._serving.wait())
        ended = asyncio.create_task(self.process.wait())
        try:
            async with asyncio.timeout(START_S):
                await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            serving.cancel()
        if not self._serving.is_set():
            await self._reader
            raise RuntimeError("the gateway did not start:\n" + "\n".join(self.log[-15:]))

    def triton(self) -> psutil.Process:
        """Return the embedded server's process."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "tritonserver" in child.name():
                return child
        raise RuntimeError("no embedded Triton runs")

    async def terminate(self, patience_s: float = 60.0) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(patience_s):
            status = await self.process.wait()
        await self._reader
        return status

    async def stop(self) -> None:
        """Make sure that it is gone, and its children with it."""
        if self.process.returncode is not None:
            return
        children = psutil.Process(self.process.pid).children(recursive=True)
        for child in children:
            if child.is_running() and child.status() == psutil.STATUS_STOPPED:
                child.resume()
        try:
            await self.terminate(30)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            for child in children:
                if child.is_running():
                    child.kill()


@asynccontextmanager
async def serve(
    repository: Path, *, prefix: tuple[str, ...] = (), **settings: Any
) -> AsyncIterator[Gateway]:
    """Run `headshot serve` on free ports for the length of the block.

    Args:
        repository: model repository of the embedded Triton.
        prefix: a command that runs the rest of its arguments (strace).
        settings: any settings, by name.
    """
    values = {
        "host": "127.0.0.1",
        "port": 0,
        "operations_port": 0,
        "model_repository": repository,
        "triton_cache": TRITON_CACHE,
        "drain_s": 30,
        **settings,
    }
    changes = [
        item
        for name, value in values.items()
        if name != "triton_url"
        for item in ("--set", f"{name}={value}")
    ]
    for url in values.get("triton_url", ()):
        changes += ["--triton-url", url]
    process = await asyncio.create_subprocess_exec(
        *prefix,
        str(Path(sys.executable).with_name("headshot")),
        "serve",
        *changes,
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    gateway = Gateway(process)
    try:
        await gateway.wait_serving()
        yield gateway
    finally:
        await gateway.stop()
