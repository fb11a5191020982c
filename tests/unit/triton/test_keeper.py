"""The keeper of a server clears shared memory that killed keepers and gateways left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from headshot.triton import keeper

SHM = Path("/dev/shm")


@pytest.fixture
def prefixes() -> Iterator[tuple[str, str, str]]:
    """Names that no other process uses, and their removal."""
    names = tuple(f"headshot-{os.getpid()}-{secrets.token_hex(4)}-" for _ in range(3))
    yield names[0], names[1], names[2]
    for name in names:
        for path in SHM.glob(f"{name}*"):
            path.unlink()


def command(tmp_path: Path, prefix: str, program: str) -> list[str]:
    """Return the command that keeps a Python program as if it were a server."""
    return [
        *(sys.executable, "-I", "-S", keeper.__file__),
        *(str(os.getpid()), "1", prefix, str(tmp_path / "pid")),
        *(sys.executable, "-c", program),
    ]


def run(tmp_path: Path, prefix: str, program: str = "pass") -> subprocess.CompletedProcess[str]:
    """Keep a Python program until it ends."""
    return subprocess.run(
        command(tmp_path, prefix, program), capture_output=True, text=True, timeout=30, check=False
    )


def test_what_a_killed_keeper_left_is_removed_by_the_next_one_and_what_is_used_stays(
    tmp_path: Path, prefixes: tuple[str, str, str]
) -> None:
    mine, dead, alive = prefixes
    for prefix in (dead, alive):
        (SHM / f"{prefix}segment").write_bytes(b"a face")
        (SHM / f"{prefix}owner").touch()
    tensors = [SHM / f"headshot-tensors-{secrets.token_hex(8)}" for _ in range(2)]
    for path in tensors:
        path.write_bytes(b"a face")
    try:
        with (SHM / f"{alive}owner").open() as owner, tensors[1].open() as pool:
            fcntl.flock(owner, fcntl.LOCK_EX)
            fcntl.flock(pool, fcntl.LOCK_EX)
            look = f"import os; print(*os.listdir('/dev/shm')); open('/dev/shm/{mine}x', 'w')"
            ended = run(tmp_path, mine, look)
        assert ended.returncode == 0, ended.stderr
        there = set(ended.stdout.split())
        assert {f"{mine}owner", f"{alive}owner", f"{alive}segment", tensors[1].name} <= there
        assert not {f"{dead}owner", f"{dead}segment", tensors[0].name} & there
        assert not list(SHM.glob(f"{mine}*"))
        assert tensors[1].exists()
    finally:
        for path in tensors:
            path.unlink(missing_ok=True)


def test_a_link_in_place_of_a_keepers_lock_is_not_followed(
    tmp_path: Path, prefixes: tuple[str, str, str]
) -> None:
    mine, other, _ = prefixes
    (tmp_path / "elsewhere").touch()
    (SHM / f"{other}owner").symlink_to(tmp_path / "elsewhere")
    (SHM / f"{other}segment").touch()
    assert run(tmp_path, mine).returncode == 0
    assert (SHM / f"{other}segment").exists()


def test_the_servers_exit_code_is_the_keepers(
    tmp_path: Path, prefixes: tuple[str, str, str]
) -> None:
    assert run(tmp_path, prefixes[0], "raise SystemExit(3)").returncode == 3


def test_a_killed_keeper_takes_the_servers_own_processes_with_it(
    tmp_path: Path, prefixes: tuple[str, str, str]
) -> None:
    # A server with a process of a model, which would sleep on when both are gone.
    server = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True)"
    process = subprocess.Popen(
        command(tmp_path, prefixes[0], f"{server}; p.wait()"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    model = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate(timeout=10)
    with contextlib.suppress(psutil.NoSuchProcess):
        deadline = time.monotonic() + 10
        while model.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.02)
