from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from headshot.api.interceptors import server_interceptors, wrapping
from headshot.errors import OverloadedError
from headshot.security.credentials import CredentialStore, new_api_key
from headshot.telemetry import context as request_context
from headshot.telemetry import logs
from headshot.telemetry.metrics import Metrics
from headshot.telemetry.tracing import NullTracing, OtelTracing
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Service:
    """A real grpc.aio server with the gateway's interceptors around a tiny handler."""

    def __init__(self, folder: Path, log: io.StringIO, *, traced: bool) -> None:
        self.traced = traced
        self.key, entry = new_api_key("web-1", "website")
        path = folder / "credentials.yaml"
        path.write_text(yaml.safe_dump({"credentials": [entry]}))
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.known_methods(["t.T/Unary", "t.T/Stream"])
        self.store = CredentialStore(path, metrics=self.metrics)
        self.closed = asyncio.Event()
        self.spans = InMemorySpanExporter()
        self.log = log
        self.channel: Any  # The stubs want serializers; bytes go as they are.

    async def unary(self, request: bytes, _context: object) -> bytes:
        self.metrics.observe_stage("denoise", 0.001, 0.002, 0.003)
        current = request_context.current()
        assert current is not None
        if request == b"overload":
            raise OverloadedError("full", reason="QUEUE_FULL", retry_after_s=1.5)
        if request == b"full":
            raise OverloadedError(
                "full", reason="MODEL_QUEUE_FULL", metadata={"model": "m"}, retry_after_s=1.0
            )
        if request == b"bug":
            raise RuntimeError("secret /home/somebody/me.jpg")
        return f"{current.tenant} {current.request_id}".encode()

    async def stream(self, request: bytes, _context: object) -> AsyncIterator[bytes]:
        try:
            while True:
                yield request or b"."
                await asyncio.sleep(0.005)
        finally:
            self.closed.set()

    def handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            "t.T",
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
            },
        )

    def auth(self, *more: tuple[str, str]) -> Any:
        return (("authorization", f"Bearer {self.key}"), *more)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def rpcs(self, method: str, code: str) -> float:
        name = "headshot_rpc_duration_seconds_count"
        found = self.metrics.registry.get_sample_value(name, {"method": method, "code": code})
        return found or 0.0


@pytest_asyncio.fixture(params=[False, True], ids=["untraced", "traced"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    log = io.StringIO()
    logs.configure("info", log)
    service = Service(tmp_path, log, traced=request.param)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(service.spans))
    tracing = OtelTracing(provider) if request.param else NullTracing()
    server = grpc.aio.server(
        interceptors=server_interceptors(service.metrics, tracing, service.store)
    )
    server.add_generic_rpc_handlers((service.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        service.channel = channel
        yield service
    await server.stop(None)
    logs.configure("warning")


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def until(condition: Callable[[], object]) -> None:
    """Let the server account for a call whose status the caller already has."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


async def test_a_known_caller_is_served_under_its_tenant_and_request_id(service: Service) -> None:
    call = service.channel.unary_unary("/t.T/Unary")(
        b"", metadata=service.auth(("x-request-id", "mine-1"))
    )
    assert await call == b"website mine-1"
    assert ("x-request-id", "mine-1") in tuple(await call.initial_metadata())


async def test_a_caller_without_a_key_gets_a_typed_refusal_that_is_counted(
    service: Service,
) -> None:
    error = await failed(service.channel.unary_unary("/t.T/Unary")(b""))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason(error) == "CREDENTIALS_MISSING"
    await until(lambda: service.rpcs("t.T/Unary", "UNAUTHENTICATED"))


async def test_a_typed_error_carries_its_details_to_the_caller_and_the_log(
    service: Service,
) -> None:
    error = await failed(
        service.channel.unary_unary("/t.T/Unary")(b"overload", metadata=service.auth())
    )
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == 1500
    await until(service.lines)
    assert service.lines()[-1]["facts"] == {"reason": "QUEUE_FULL"}


async def test_a_request_that_finds_a_models_queue_full_is_counted_as_shed(
    service: Service,
) -> None:
    for request in (b"full", b"overload"):  # the second is admission's, which counts it itself
        await failed(service.channel.unary_unary("/t.T/Unary")(request, metadata=service.auth()))
    await until(lambda: len(service.lines()) == 2)
    assert {
        (sample.labels["tenant"], sample.labels["reason"])
        for family in service.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "headshot_admission_shed_total" and sample.value
    } == {("website", "MODEL_QUEUE_FULL")}


async def test_an_unexpected_error_tells_the_caller_nothing_of_the_inside(
    service: Service,
) -> None:
    error = await failed(service.channel.unary_unary("/t.T/Unary")(b"bug", metadata=service.auth()))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (error.details() or "")
    await until(lambda: len(service.lines()) == 2)
    assert "somebody" not in service.log.getvalue()
    assert any(line.get("error_type") == "RuntimeError" for line in service.lines())


async def test_each_rpc_writes_one_access_line_with_its_stages(service: Service) -> None:
    await service.channel.unary_unary("/t.T/Unary")(
        b"", metadata=service.auth(("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"))
    )
    await until(service.lines)
    (line,) = service.lines()
    assert line["event"] == "rpc"
    assert (line["method"], line["code"]) == ("t.T/Unary", "OK")
    assert (line["tenant"], line["credential"]) == ("website", "web-1")
    assert line["trace_id"] == TRACE
    assert line["stages"]["denoise"] == {
        "queue_ms": 1.0,
        "wire_ms": 2.0,
        "compute_ms": 3.0,
        "calls": 1,
    }
    assert service.key not in service.log.getvalue()


async def test_a_cancelled_stream_closes_its_generator_at_once(service: Service) -> None:
    call = service.channel.unary_stream("/t.T/Stream")(b"", metadata=service.auth())
    async for _ in call:
        call.cancel()
        break
    async with asyncio.timeout(5):
        await service.closed.wait()


async def test_a_stream_past_its_deadline_is_counted_as_that(service: Service) -> None:
    call = service.channel.unary_stream("/t.T/Stream")(b"", metadata=service.auth(), timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async for _ in call:
            pass
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await service.closed.wait()
    await until(lambda: service.rpcs("t.T/Stream", "DEADLINE_EXCEEDED"))


async def let_go(service: Service, monkeypatch: pytest.MonkeyPatch) -> grpc.aio.UnaryStreamCall:
    """Return a call whose caller took nothing for so long that its handler was closed."""
    monkeypatch.setattr(wrapping, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(wrapping, "_SLOWEST_BYTES_S", 400_000_000)
    call = service.channel.unary_stream("/t.T/Stream")(bytes(4_000_000), metadata=service.auth())
    async with asyncio.timeout(10):
        await service.closed.wait()
    return call


async def test_a_caller_that_takes_nothing_is_let_go_and_told_so_when_it_reads_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await let_go(service, monkeypatch)
    async with asyncio.timeout(10):
        assert not service.rpcs("t.T/Stream", "ABORTED")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async for message in call:
                assert len(message) == 4_000_000
    assert error.value.code() is grpc.StatusCode.ABORTED
    assert reason(error.value) == "ANSWER_NOT_TAKEN"
    await until(lambda: service.rpcs("t.T/Stream", "ABORTED"))


async def test_a_large_message_has_the_time_that_a_slow_line_needs(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapping, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(wrapping, "_SLOWEST_BYTES_S", 400_000)  # 4 MB in 10 s.
    call = service.channel.unary_stream("/t.T/Stream")(bytes(4_000_000), metadata=service.auth())
    await call.wait_for_connection()
    await asyncio.sleep(0.4)
    async with asyncio.timeout(10):
        for _ in range(4):
            assert len(await call.read()) == 4_000_000
    assert not service.closed.is_set()
    call.cancel()


async def test_a_caller_that_was_let_go_and_leaves_ends_its_call(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await let_go(service, monkeypatch)
    call.cancel()
    await until(lambda: service.rpcs("t.T/Stream", "CANCELLED"))


async def test_unknown_methods_are_counted_under_one_label(service: Service) -> None:
    for name in ("Nope", "Nada"):
        error = await failed(service.channel.unary_unary(f"/t.T/{name}")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    await until(lambda: service.rpcs("unknown", "UNIMPLEMENTED") == 2)


async def test_tracing_puts_the_call_under_the_callers_span(service: Service) -> None:
    metadata = service.auth(("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"))
    await service.channel.unary_unary("/t.T/Unary")(b"", metadata=metadata)
    if service.traced:
        await until(service.spans.get_finished_spans)
    for span in service.spans.get_finished_spans():
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
