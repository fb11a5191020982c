"""When a call's message is read, and what becomes of calls whose message never comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from headshot.api.interceptors import messages, server_interceptors
from headshot.security.credentials import CredentialStore, new_api_key
from headshot.telemetry.metrics import Metrics
from headshot.telemetry.tracing import NullTracing
from headshot.v1 import headshot_service_pb2 as pb
from prometheus_client import CollectorRegistry

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # The stubs lack it.
METHODS = ("/t.T/One", "/t.T/Many")


class Service:
    """A server with both kinds of handlers of one message, and callers of them."""

    def __init__(self, folder: Path) -> None:
        self.key, entry = new_api_key("web-1", "website")
        path = folder / "credentials.yaml"
        path.write_text(yaml.safe_dump({"credentials": [entry]}))
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.known_methods(["t.T/One"])
        self.store = CredentialStore(path, metrics=self.metrics)
        self.channel: Any

    async def one(self, request: pb.MatteRequest, _context: object) -> bytes:
        return b"1" if request.cutout else b"0"

    async def many(self, request: pb.MatteRequest, _context: object) -> AsyncIterator[bytes]:
        for _ in range(2):
            yield await self.one(request, _context)

    def handlers(self) -> Any:
        parse: Any = pb.MatteRequest.FromString
        return grpc.method_handlers_generic_handler(
            "t.T",
            {
                "One": grpc.unary_unary_rpc_method_handler(self.one, parse),
                "Many": grpc.unary_stream_rpc_method_handler(self.many, parse),
            },
        )

    async def refused(self, method: str, key: str, *messages: bytes) -> tuple[Any, str]:
        """Send messages and leave the stream open without any; return code and reason.

        On the wire a call of one message is a stream of one.
        """
        metadata = (("authorization", f"Bearer {key}"),)
        call = self.channel.stream_stream(method)(metadata=metadata, timeout=20)
        for message in messages:
            await call.write(message)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await call.read() is not EOF:
                pass
            raise AssertionError("was answered")
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        info = error_details_pb2.ErrorInfo()
        if status is not None:
            assert status.details[0].Unpack(info)
        return caught.value.code(), info.reason


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path)
    server = grpc.aio.server(
        interceptors=server_interceptors(
            service.metrics, NullTracing(), service.store, message_s=0.3
        ),
        options=[("grpc.max_receive_message_length", 1000)],
    )
    server.add_generic_rpc_handlers((service.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        service.channel = channel
        yield service
    await server.stop(None)


async def test_plain_calls_are_answered_as_ever(service: Service) -> None:
    metadata = (("authorization", f"Bearer {service.key}"),)
    request = pb.MatteRequest(cutout=True).SerializeToString()
    assert await service.channel.unary_unary("/t.T/One")(request, metadata=metadata) == b"1"
    answers = service.channel.unary_stream("/t.T/Many")(request, metadata=metadata)
    assert [answer async for answer in answers] == [b"1", b"1"]


@pytest.mark.parametrize("method", METHODS)
async def test_who_has_no_key_is_refused_before_any_message(service: Service, method: str) -> None:
    async with asyncio.timeout(5):
        code, reason = await service.refused(method, "hs_wrong")
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert reason


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_that_does_not_come_ends_the_call(service: Service, method: str) -> None:
    async with asyncio.timeout(5):
        found = await service.refused(method, service.key)
    assert found == (grpc.StatusCode.ABORTED, "MESSAGE_TOO_SLOW")


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_message_are_the_callers_error(
    service: Service, method: str
) -> None:
    found = await service.refused(method, service.key, b"\xff\xff\xff")
    assert found == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_of_too_many_fields_is_refused_before_it_is_parsed(
    service: Service, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_MOST_FIELDS", 300)
    found = await service.refused(method, service.key, b"\x0a\x00" * 301)
    assert found == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_FIELDS")
    metadata = (("authorization", f"Bearer {service.key}"),)
    call = service.channel.unary_unary("/t.T/One")
    assert await call(b"\x0a\x00" * 300, metadata=metadata) == b"0"


async def test_a_call_that_ends_without_a_message_is_the_callers_error(service: Service) -> None:
    metadata = (("authorization", f"Bearer {service.key}"),)
    call = service.channel.stream_unary("/t.T/One")(metadata=metadata, timeout=20)
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_that_is_too_large_is_refused_by_grpc(
    service: Service, method: str
) -> None:
    code, reason = await service.refused(method, service.key, bytes(1001))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")


async def test_a_caller_that_leaves_before_its_message_is_no_error_of_its_message(
    service: Service,
) -> None:
    metadata = (("authorization", f"Bearer {service.key}"),)
    call = service.channel.stream_unary("/t.T/One")(metadata=metadata)
    await call.wait_for_connection()
    await asyncio.sleep(0.05)
    call.cancel()
    name, labels = "headshot_rpc_duration_seconds_count", {"method": "t.T/One", "code": "CANCELLED"}
    async with asyncio.timeout(5):
        while not service.metrics.registry.get_sample_value(name, labels):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
