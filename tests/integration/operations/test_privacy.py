"""After a run of everything: nothing of a photo or vector is in the logs or on the disk."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from headshot.telemetry.audit import verify

from tests.chaos.harness import serve, serving_repository
from tests.integration.operations.traffic import PHOTO_NAME, Files, Traffic, secured

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STRACE = shutil.which("strace")
# What may be opened for writing while photos are worked on: memory, pipes, devices.
HARMLESS = re.compile(r"/dev/(null|shm/.*|urandom|tty)|/proc/.*|/sys/.*|pipe:.*|socket:.*|anon_.*")
_OPENED = re.compile(r'(?:openat|open|creat)\((?:AT_FDCWD[^,]*, |\d+[^,]*, )?"([^"]+)", ([^)]*)\)')


@dataclass(frozen=True)
class Run:
    """What a run left behind."""

    traffic: Traffic
    files: Files
    template: bytes
    log: str
    opened_at_start: list[str]
    opened_for_writing: list[str]
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    """Serve under strace where there is one, send everything, stop."""
    folder = tmp_path_factory.mktemp("privacy")
    repository, _ = serving_repository(tmp_path_factory.mktemp("models"))
    files = secured(folder)
    trace = folder / "trace"
    prefix: tuple[str, ...] = ()
    if STRACE:
        calls = "trace=openat,open,creat"
        prefix = (STRACE, "-D", "-f", "--seccomp-bpf", "-ttt", "-e", calls, "-o", str(trace))
    async with serve(repository, prefix=prefix, log_level="debug", **files.settings) as gateway:
        traffic = Traffic(gateway.address, files)
        # The first call may fill caches of code; what counts is a call on a service that is warm.
        await traffic.create(traffic.photo)
        begun = len(trace.read_text(errors="replace").splitlines()) if STRACE else 0
        template = await traffic.a_bit_of_everything()
        traced = trace.read_text(errors="replace").splitlines() if STRACE else []
        await traffic.close()
    yield Run(
        traffic,
        files,
        template,
        "\n".join(gateway.log),
        _written(traced[:begun]),
        _written(traced[begun:]),
        folder,
    )


def _written(lines: list[str]) -> list[str]:
    """Return the paths that were opened for writing or made."""
    found = []
    for text in lines:
        match = _OPENED.search(text)
        if match and re.search(r"O_WRONLY|O_RDWR|O_CREAT", match.group(2)):
            found.append(match.group(1))
    return found


def fingerprints(data: bytes, size: int = 24) -> list[bytes]:
    """Return pieces of `data`, spread over it, that have enough variety to be unmistakable."""
    pieces = [data[at : at + size] for at in range(len(data) // 10, len(data) - size, 997)]
    return [piece for piece in pieces if len(set(piece)) > size // 2][:200]


def encodings(piece: bytes) -> list[str]:
    """Return how bytes could show in a text: base64 at each alignment, hex, Python's repr."""
    shifted = [base64.b64encode(piece[shift:])[: len(piece) - 8].decode() for shift in range(3)]
    return [*shifted, piece.hex(), repr(piece)[2:-1]]


def test_the_run_met_every_kind_of_answer(run: Run) -> None:
    assert {"OK", "UNAUTHENTICATED", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"} <= set(
        run.traffic.codes
    )
    assert run.template
    assert run.traffic.answers
    assert run.log.count('"event": "rpc"') >= 10


def test_no_piece_of_a_photo_a_picture_or_a_template_is_in_the_log(run: Run) -> None:
    for data in (run.traffic.photo, run.traffic.answers[0], run.template):
        pieces = fingerprints(data)
        assert pieces
        for piece in pieces:
            for text in encodings(piece):
                assert text not in run.log


def test_no_vector_key_or_file_name_is_in_the_log(run: Run) -> None:
    assert not re.search(r"(-?\d+\.\d+(e-?\d+)?\s*,\s*){8}", run.log)
    for secret in (run.files.key, run.files.throttled_key, run.files.template_key, PHOTO_NAME):
        assert secret not in run.log
    for line in run.log.splitlines():
        if '"event": "rpc"' in line:
            assert str(run.folder) not in line


def test_the_audit_log_is_intact_and_holds_no_picture(run: Run) -> None:
    text = run.files.audit.read_text()
    assert verify(text.encode().splitlines()).ok
    assert '"consent_reference":"CONSENT-4711"' in text
    assert '"tenant":"website"' in text
    assert PHOTO_NAME not in text
    assert len(max(text.splitlines(), key=len)) < 1200
    assert not re.search(r"(-?\d+\.\d+\s*,\s*){4}", text)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_nothing_is_written_to_disk_while_photos_are_worked_on(run: Run) -> None:
    # The trace works: it saw the audit log being opened at the start.
    assert str(run.files.audit) in run.opened_at_start
    assert [path for path in run.opened_for_writing if not HARMLESS.fullmatch(path)] == []


def test_no_piece_of_a_photo_is_in_the_files_the_run_left(run: Run) -> None:
    pieces = [fingerprints(data) for data in (run.traffic.photo, run.traffic.answers[0])]
    looked_at = 0
    for path in run.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            looked_at += 1
            assert not any(piece in content for some in pieces for piece in some), path
    assert looked_at >= 3
