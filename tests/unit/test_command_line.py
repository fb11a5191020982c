"""The commands tell what is wrong in a line, before they do anything, and scripts can tell why."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from headshot import cli
from headshot.cli import app
from headshot.config import Settings
from headshot.models.cli import models_app
from headshot.security.cli import keys_app
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc
from typer.testing import CliRunner

WRONG_COMMAND = 2
CALL_FAILED = 1
DIFFERENT_PERSON = 3


class Judge(headshot_service_pb2_grpc.HeadshotServiceServicer):
    """Takes two equal pictures for one person; makes headshots of one byte, unless told not to."""

    def __init__(self) -> None:
        self.made = 0

    async def Verify(self, request, context):
        answer = pb.VerifyResponse()
        answer.verification.same_person = request.photo.data == request.references[0].data
        return answer

    async def CreateHeadshot(self, request, context):
        self.made += 1
        result = pb.HeadshotResult()
        result.renditions.add(filename="square.jpg", data=b"x")
        yield pb.CreateHeadshotResponse(result=result)


@pytest.fixture
async def judge() -> AsyncIterator[tuple[Judge, str]]:
    servicer, server = Judge(), grpc.aio.server()
    headshot_service_pb2_grpc.add_HeadshotServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[str, str]:
    """Return two files that differ."""
    for name in ("one.jpg", "other.jpg"):
        (tmp_path / name).write_text(name)
    return str(tmp_path / "one.jpg"), str(tmp_path / "other.jpg")


async def run(*arguments: str) -> Result:
    """Run a command in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


def in_one_line(result: Result) -> bool:
    """Whether a command ended by itself: with an exit code, not with an exception."""
    return isinstance(result.exception, SystemExit)


async def test_a_different_person_is_no_wrong_command_line(judge, photos) -> None:
    one, other = photos
    to = ("--target", judge[1])
    assert (await run("verify", one, one, *to)).exit_code == 0
    assert (await run("verify", one, other, *to)).exit_code == DIFFERENT_PERSON
    assert (await run("verify", one, *to)).exit_code == WRONG_COMMAND
    assert (await run("verify", one, one, "--target", "127.0.0.1:1")).exit_code == CALL_FAILED


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "FOLDER"),
        ("verify", "FOLDER", "PHOTO"),
        ("verify", "PHOTO", "FOLDER"),
        ("inspect", "FOLDER"),
        ("verify", "PHOTO", "PHOTO", "--ca", "missing.pem"),
        ("info", "--ca", "FOLDER"),
        ("create", "PHOTO", "--seed", "-1"),
        ("create", "PHOTO", "--seed", str(2**64)),
        ("create", "PHOTO", "--candidates", "0"),
        ("create", "PHOTO", "--candidates", "99999999999"),
        ("create", "PHOTO", "--out", "PHOTO"),
    ],
)
def test_what_cannot_be_meant_is_a_wrong_command_line(arguments, tmp_path, photos) -> None:
    known = {"FOLDER": str(tmp_path), "PHOTO": photos[0]}
    # Nobody listens there: had the command gone on to the call, it would have failed with 1.
    target = () if arguments[0] == "inspect" else ("--target", "127.0.0.1:1")
    result = CliRunner().invoke(app, [*(known.get(one, one) for one in arguments), *target])
    assert result.exit_code == WRONG_COMMAND, result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "missing.onnx"),
        ("check", "FOLDER"),
        ("list", "--manifest", "missing.yaml"),
        ("list", "--manifest", "FOLDER"),
        ("list", "--manifest", "TEXT"),
    ],
)
def test_models_refuses_files_that_cannot_be_read(arguments, tmp_path) -> None:
    (tmp_path / "text.yaml").write_text("files: {")
    known = {"FOLDER": str(tmp_path), "TEXT": str(tmp_path / "text.yaml")}
    result = CliRunner().invoke(models_app, [known.get(one, one) for one in arguments])
    assert result.exit_code == WRONG_COMMAND, result.output


def test_an_audit_key_that_is_not_hexadecimal_is_no_broken_log(tmp_path) -> None:
    log = tmp_path / "audit.jsonl"
    log.touch()
    environment = {"HEADSHOT_AUDIT_KEY": "secret words"}
    result = CliRunner().invoke(keys_app, ["audit", str(log)], env=environment)
    assert result.exit_code == WRONG_COMMAND
    assert "must be hexadecimal" in result.output
    assert "secret" not in result.output
    folder = CliRunner().invoke(keys_app, ["audit", str(tmp_path)])
    assert folder.exit_code == WRONG_COMMAND


async def test_a_folder_that_cannot_be_made_stops_before_the_headshot(judge, photos) -> None:
    servicer, target = judge
    below_a_file = str(Path(photos[1]) / "out")
    result = await run("create", photos[0], "--out", below_a_file, "--target", target)
    assert (result.exit_code, in_one_line(result)) == (CALL_FAILED, True)
    assert servicer.made == 0


async def test_a_picture_that_cannot_be_kept_is_told_in_a_line(judge, photos, tmp_path) -> None:
    servicer, target = judge
    (tmp_path / "out" / "square.jpg").mkdir(parents=True)
    to = ("--out", str(tmp_path / "out"), "--target", target)
    result = await run("create", photos[0], "--no-sheet", *to)
    assert servicer.made == 1
    assert (result.exit_code, in_one_line(result)) == (CALL_FAILED, True)
    assert "square.jpg" in result.output.replace("\n", "")


def test_text_that_is_not_utf8_is_told_in_a_line(photos) -> None:
    arguments = ["create", photos[0], "--style", "\udcff", "--target", "127.0.0.1:1"]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, in_one_line(result)) == (CALL_FAILED, True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_operations_port_is_told_before_models_are_loaded(workers) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "headshot", "serve", "--port", "0", "--workers", workers]
        # A folder without models: had the port been looked at later, this would be the complaint.
        command += ["--operations-port", port, "--model-repository", "/nonexistent"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == CALL_FAILED
    assert f"127.0.0.1:{port}: Address already in use" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["create", "verify", "info"])
def test_a_gateway_for_one_call_is_reached_by_it_however_the_service_here_is_configured(
    command: str, photos: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "headshot.toml"
    config.write_text(
        'host = "0.0.0.0"\noperations_host = "0.0.0.0"\noperations_port = 8052\nworkers = 4\n'
        'tls_certificate = "a.crt"\ntls_key = "a.key"\ntls_client_ca = "ca.crt"\n'
        'credentials = "credentials.yaml"\nmax_regenerations = 5\n'
    )
    monkeypatch.setenv("HEADSHOT_CONFIG", str(config))
    started: list[Settings] = []

    @asynccontextmanager
    async def start(settings: Settings) -> AsyncIterator[None]:
        started.append(settings)
        raise RuntimeError("enough")
        yield

    monkeypatch.setattr(cli, "run_gateway", start)
    arguments = {"create": [photos[0], "--out", str(tmp_path)], "verify": [*photos], "info": []}
    result = CliRunner().invoke(app, [command, *arguments[command]])
    assert result.exit_code == CALL_FAILED
    (settings,) = started
    assert (settings.host, settings.operations_host) == ("127.0.0.1", "127.0.0.1")
    assert (settings.port, settings.operations_port, settings.workers) == (0, 0, 1)
    assert {
        settings.credentials,
        settings.tls_certificate,
        settings.tls_key,
        settings.tls_client_ca,
    } == {None}
    assert settings.max_regenerations == 5


def test_an_unknown_log_level_is_told_in_a_line() -> None:
    result = CliRunner().invoke(app, ["serve", "--set", "log_level=loud"])
    assert (result.exit_code, in_one_line(result)) == (CALL_FAILED, True)
    assert "unknown log level" in result.output


def test_the_commands_can_be_imported_where_affinity_is_unknown() -> None:
    code = (
        "import os; del os.sched_getaffinity; import headshot.cli;"
        "from headshot.config import Settings; print(Settings().imaging_threads)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) == os.cpu_count()
