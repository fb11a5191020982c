"""What `headshot create` asks of a service, heard by a service that makes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from headshot import cli
from headshot.api.validation import validate
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc, style_pb2
from typer.testing import CliRunner


class Listening(headshot_service_pb2_grpc.HeadshotServiceServicer):
    """Keeps what it was asked for and answers with an empty result."""

    def __init__(self) -> None:
        self.request = pb.CreateHeadshotRequest()

    def CreateHeadshot(
        self, request: pb.CreateHeadshotRequest, _context: Any
    ) -> Iterator[pb.CreateHeadshotResponse]:
        self.request = request
        yield pb.CreateHeadshotResponse(result=pb.HeadshotResult())


@pytest.fixture
def service() -> Iterator[tuple[Listening, str]]:
    servicer, server = Listening(), grpc.server(ThreadPoolExecutor(1))
    headshot_service_pb2_grpc.add_HeadshotServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait(10)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("auto", style_pb2.Background(auto=True)),
        ("blur", style_pb2.Background(blurred_scene=True)),
        ("navy", style_pb2.Background(colour="navy")),
        ("gradient:navy", style_pb2.Background(gradient="navy")),
        ("gradient:#1A2B3C", style_pb2.Background(gradient="#1A2B3C")),
        ("wall.png", style_pb2.Background(image=b"a wall")),
    ],
)
def test_every_kind_of_background_can_be_asked_for(
    service: tuple[Listening, str],
    text: str,
    asked: style_pb2.Background,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servicer, address = service
    monkeypatch.chdir(tmp_path)
    Path("me.jpg").write_bytes(b"me")
    Path("wall.png").write_bytes(b"a wall")
    words = ["create", "me.jpg", "--target", address, "--background", text, "--no-sheet"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert servicer.request.options.background == asked
    validate(servicer.request)
