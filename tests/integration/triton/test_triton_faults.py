"""Servers that are killed or hang: no request is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio
from headshot.deadline import Deadline
from headshot.errors import ModelUnavailableError
from headshot.triton import keeper as keeper_module
from headshot.triton.client import ClientSettings, InferenceClient
from headshot.triton.endpoints import ProbeSettings
from headshot.triton.run_folder import RunFolder
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig

from tests.integration.triton.conftest import image, until
from tests.integration.triton.tiny_repository import build_repository

_QUICK = ClientSettings(probes=ProbeSettings(interval_s=0.1, timeout_s=1.0, failures=3))


@pytest.fixture(scope="module")
def matting_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small model, so that a server starts quickly."""
    return build_repository(tmp_path_factory.mktemp("matting"), models=["matting"], max_batch=2)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two_servers(
    matting_repository: Path, triton_cache: Path
) -> AsyncIterator[list[EmbeddedTriton]]:
    """Two servers with the same models, which tests may harm but must let recover."""
    config = EmbeddedTritonConfig(matting_repository, cache_dir=triton_cache, watch_interval_s=60)
    servers = [EmbeddedTriton(config), EmbeddedTriton(config)]
    try:
        await asyncio.gather(*(server.start() for server in servers))
        yield servers
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def _load(client: InferenceClient, count: int, start: int = 0) -> list[np.ndarray]:
    """Send `count` inferences at the same time; every one must succeed."""
    answers = await asyncio.gather(
        *(
            client.infer("matting", {"image": image(start + seed)}, deadline=Deadline.after(60))
            for seed in range(count)
        )
    )
    return [answer.outputs["alpha"] for answer in answers]


async def test_a_killed_server_loses_no_request_and_comes_back(
    two_servers: list[EmbeddedTriton],
) -> None:
    victim, other = two_servers
    async with InferenceClient([server.grpc_url for server in two_servers], settings=_QUICK) as c:
        expected = await _load(c, 12)
        load = asyncio.create_task(_load(c, 12))
        await until(lambda: bool(c.endpoints[0].flights))
        assert victim.pid is not None
        stubs = psutil.Process(victim.pid).children()
        os.kill(victim.pid, signal.SIGKILL)
        np.testing.assert_array_equal(await load, expected)
        assert other.restarts == 0
        psutil.wait_procs(stubs, timeout=10)
        assert not any(stub.is_running() for stub in stubs)
        await until(lambda: c.endpoints[0].healthy and victim.restarts > 0)
        used: set[str] = set()
        while used != {server.grpc_url for server in two_servers}:
            result = await c.infer("matting", {"image": image(0)}, deadline=Deadline.after(30))
            used.add(result.endpoint)


async def test_requests_wait_for_the_only_server_to_come_back(
    two_servers: list[EmbeddedTriton],
) -> None:
    victim = two_servers[0]
    async with InferenceClient([victim.grpc_url], settings=_QUICK) as client:
        expected = await _load(client, 4)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        np.testing.assert_array_equal(await _load(client, 4), expected)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
async def test_requests_survive_the_death_of_a_models_process(
    matting_repository: Path, triton_cache: Path, number: signal.Signals
) -> None:
    config = EmbeddedTritonConfig(
        matting_repository, cache_dir=triton_cache, watch_interval_s=0.2, watch_failures=2
    )
    async with (
        EmbeddedTriton(config) as server,
        InferenceClient([server.grpc_url], settings=_QUICK) as client,
    ):
        expected = await _load(client, 2)
        assert server.pid is not None
        (stub,) = psutil.Process(server.pid).children()
        stub.send_signal(number)
        np.testing.assert_array_equal(await _load(client, 2), expected)
        assert server.restarts == 1


async def test_work_of_a_hanging_server_goes_to_another(two_servers: list[EmbeddedTriton]) -> None:
    victim = two_servers[0]
    async with InferenceClient([server.grpc_url for server in two_servers], settings=_QUICK) as c:
        expected = await _load(c, 8)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            np.testing.assert_array_equal(await _load(c, 8), expected)
            assert not c.endpoints[0].healthy
            assert c.endpoints[1].healthy
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        await until(lambda: c.endpoints[0].healthy)


async def test_no_server_at_all_is_a_typed_error_in_time() -> None:
    settings = ClientSettings(recovery_wait_s=0.5)
    async with InferenceClient(["127.0.0.1:9"], settings=settings) as client:
        with pytest.raises(ModelUnavailableError) as raised:
            await client.infer("matting", {"image": image(0)}, deadline=Deadline.after(20))
    assert raised.value.retry_after_s


async def test_a_model_that_cannot_load_names_the_reason(
    tmp_path: Path, triton_cache: Path
) -> None:
    root = build_repository(tmp_path / "broken", models=["matting"])
    (root / "matting" / "1" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelUnavailableError, match="matting"):
        await EmbeddedTriton(EmbeddedTritonConfig(root, cache_dir=triton_cache)).start()


async def test_a_server_that_crashes_while_it_loads_is_started_once_more(
    matting_repository: Path, triton_cache: Path
) -> None:
    server = EmbeddedTriton(EmbeddedTritonConfig(matting_repository, cache_dir=triton_cache))
    start = asyncio.ensure_future(server.start())
    try:
        await until(lambda: server.pid is not None)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await start
        assert server.ready
    finally:
        await server.stop()


async def test_a_start_that_gets_stuck_tells_how_far_it_came(
    matting_repository: Path, triton_cache: Path
) -> None:
    config = EmbeddedTritonConfig(
        matting_repository, cache_dir=triton_cache, ready_timeout_s=6, stop_grace_s=0.5
    )
    server = EmbeddedTriton(config)
    start = asyncio.ensure_future(server.start())

    def stubs() -> list[psutil.Process]:
        children = psutil.Process(server.pid).children() if server.pid else []
        return [child for child in children if child.name().startswith("triton_python")]

    try:
        await until(lambda: bool(stubs()))
        for stub in stubs():
            stub.suspend()
        with pytest.raises(ModelUnavailableError, match=r"no error; last it said: .*matting"):
            await start
    finally:
        await server.stop()


async def test_a_killed_keeper_leaves_no_process_and_no_memory(
    matting_repository: Path, triton_cache: Path
) -> None:
    config = EmbeddedTritonConfig(matting_repository, cache_dir=triton_cache, watch_interval_s=0.2)
    async with (
        EmbeddedTriton(config) as server,
        InferenceClient([server.grpc_url], settings=_QUICK) as client,
    ):
        expected = await _load(client, 2)
        assert server.pid is not None
        triton = psutil.Process(server.pid)
        keeper, (stub,) = triton.parent(), triton.children()
        assert keeper is not None
        # Other servers of this process have files, too.
        prefix = "-".join(stub.cmdline()[2].split("-")[:3])
        assert len(_files(prefix)) == 2  # the stub's and the keeper's
        stub.suspend()  # so that it cannot notice by itself
        keeper.kill()
        np.testing.assert_array_equal(await _load(client, 2), expected)
        assert server.restarts == 1
        _, alive = await asyncio.to_thread(psutil.wait_procs, [triton, stub], 20)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        assert not _files(prefix)


@dataclass(frozen=True)
class _Gateway:
    """A process with an embedded server and a call whose picture is in shared memory."""

    process: subprocess.Popen[str]
    server: psutil.Process
    folder: Path
    pictures: frozenset[Path]

    @property
    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def gateway(matting_repository: Path, triton_cache: Path) -> Iterator[_Gateway]:
    program = textwrap.dedent(
        f"""
        import asyncio
        from pathlib import Path
        import numpy as np
        from headshot.deadline import Deadline
        from headshot.triton.client import InferenceClient
        from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig

        async def main():
            config = EmbeddedTritonConfig(
                Path({str(matting_repository)!r}), cache_dir=Path({str(triton_cache)!r})
            )
            async with (
                EmbeddedTriton(config) as server, InferenceClient([server.grpc_url]) as client
            ):
                picture = np.full((1, 512, 512, 3), 7, np.uint8)
                await client.infer("matting", {{"image": picture}}, deadline=Deadline.after(60))
                files = [str(path) for path in client.shared_memory.files]
                print(server.pid, server.facts_dir.parent, *files, flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        pid, folder, *files = process.stdout.readline().split()
        yield _Gateway(process, psutil.Process(int(pid)), Path(folder), frozenset(map(Path, files)))
    finally:
        process.kill()
        process.communicate(timeout=10)


def _memory(pid: int) -> set[Path]:
    """Return the shared memory of the embedded servers of a process."""
    return _files(f"headshot-{pid}")


def _files(prefix: str) -> set[Path]:
    """Return the shared memory whose names begin like this."""
    return set(Path("/dev/shm").glob(f"{prefix}-*"))


def test_nothing_survives_a_killed_gateway(gateway: _Gateway) -> None:
    family = gateway.family
    assert gateway.server in family
    assert len(family) >= 3  # keeper, tritonserver, one stub
    assert gateway.pictures
    gateway.process.kill()
    gateway.process.wait(timeout=10)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    # Removed by a process that is nobody's child by now: it has its time, too.
    until = time.monotonic() + 10
    while left := {*_memory(gateway.process.pid), *filter(Path.exists, gateway.pictures)}:
        assert time.monotonic() < until, left
        time.sleep(0.05)
    RunFolder().remove()  # as the next gateway's server does when it starts
    assert not gateway.folder.exists()


def test_nothing_survives_a_gateway_and_keeper_that_are_killed_together(gateway: _Gateway) -> None:
    family = gateway.family
    keeper = gateway.server.parent()
    assert keeper is not None
    keeper.kill()
    gateway.process.kill()
    gateway.process.wait(timeout=10)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    # Nobody was left to remove the memory; it is its user's alone, and the next keeper removes it.
    left = _memory(gateway.process.pid)
    assert left
    assert {stat.S_IMODE(path.stat().st_mode) for path in {*left, *gateway.pictures}} == {0o600}
    subprocess.run(
        [
            *(sys.executable, "-I", "-S", keeper_module.__file__),
            *(str(os.getpid()), "1", f"headshot-{os.getpid()}-0-", str(gateway.folder / "pid")),
            "true",
        ],
        check=True,
        timeout=10,
    )
    assert not [path for path in {*left, *gateway.pictures} if path.exists()]
