"""What crashes under a gateway leaves no memory on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORBID = "from headshot.core_dumps import forbid_core_dumps; forbid_core_dumps();"
# Whether the kernel dumped core is part of the status that a parent gets.
CRASH = """
import os, resource, subprocess, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
{before}
child = subprocess.Popen([sys.executable, "-c", "import os; os.abort()"], cwd={folder!r})
_, status = os.waitpid(child.pid, 0)
print(os.WTERMSIG(status), os.WCOREDUMP(status), *resource.getrlimit(resource.RLIMIT_CORE))
"""


def crashed_below(before: str, folder: Path) -> list[str]:
    """Return signal, core dumped, soft and hard limit of a child of a process that ran `before`."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH.format(before=before, folder=str(folder))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


def test_a_process_below_the_gateway_dumps_no_core(tmp_path: Path) -> None:
    signal, dumped, soft, hard = crashed_below(FORBID, tmp_path)
    assert (signal, dumped) == ("6", "False")
    assert (soft, hard) in {("1", "1"), ("0", "0")}
    assert list(tmp_path.iterdir()) == []


def test_forbidding_twice_or_under_a_limit_of_nothing_does_no_harm(tmp_path: Path) -> None:
    nothing = "resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    assert crashed_below(FORBID + FORBID, tmp_path)[:2] == ["6", "False"]
    assert crashed_below(nothing + FORBID, tmp_path) == ["6", "False", "0", "0"]


def test_a_gateway_forbids_them_before_it_starts_anything(tmp_path: Path) -> None:
    script = """
import asyncio, resource
from headshot.api.gateway import run_gateway
from headshot.api.supervisor import serve_with_workers
from headshot.config import Settings
settings = Settings(model_repository={folder!r}, port=0, operations_port=0, workers={workers})

async def start():
    if settings.workers > 1:
        await serve_with_workers(settings)
    async with run_gateway(settings):
        pass

try:
    asyncio.run(start())
except Exception as error:
    print(type(error).__name__, *resource.getrlimit(resource.RLIMIT_CORE))
"""
    for workers in (1, 2):
        code = script.format(folder=str(tmp_path / "nothing"), workers=workers)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        error, soft, hard = done.stdout.split()[-3:]
        assert error == "ModelUnavailableError"
        assert (soft, hard) in {("1", "1"), ("0", "0")}
