from __future__ import annotations

import contextvars
import subprocess
import sys

import pytest
from headshot.telemetry import context as request_context
from headshot.telemetry.context import RequestContext, from_metadata
from headshot.telemetry.tracing import NullTracing, OtelTracing, configure
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_tracing_is_off_by_default_and_then_gives_one_shared_nothing() -> None:
    tracing = configure(None)
    assert isinstance(tracing, NullTracing)
    assert tracing.span("a") is tracing.span("b", {"k": 1})


def test_the_sdk_is_not_imported_while_tracing_is_off() -> None:
    code = (
        "import sys, headshot.telemetry.tracing as t; t.configure(None);"
        "sys.exit(any(m.startswith('opentelemetry.sdk') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_off_still_passes_the_callers_trace_on() -> None:
    request = RequestContext("r", "s/M", traceparent=PARENT, tracestate="vendor=1")

    def headers() -> dict[str, str]:
        request_context.activate(request)
        return NullTracing().headers()

    found = contextvars.copy_context().run(headers)
    assert found == {"traceparent": PARENT, "tracestate": "vendor=1"}


def test_a_span_tells_the_code_and_nothing_of_the_exception() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing = OtelTracing(provider)
    for code in ("INVALID_ARGUMENT", "INTERNAL"):
        with (
            pytest.raises(OSError, match="jane"),
            tracing.rpc(RequestContext("r", "s/M")),
            tracing.span("step"),
        ):
            raise OSError("/srv/jane-doe/photo.jpg")
        with tracing.rpc(RequestContext("r", "s/M")):
            tracing.ended(code)
    found = spans.get_finished_spans()
    assert "jane" not in "".join(span.to_json() for span in found)
    told = [span for span in found if span.attributes and "rpc.grpc.status_code" in span.attributes]
    assert [span.status.is_ok for span in told] == [True, False]
    assert [span.attributes["rpc.grpc.status_code"] for span in told if span.attributes] == [3, 13]


def test_on_the_server_span_is_a_child_of_the_caller_and_goes_on_to_triton() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing = OtelTracing(provider)
    request = RequestContext("r", "pkg.Svc/Method", traceparent=PARENT)
    with tracing.rpc(request), tracing.span("denoise", {"steps": 4}):
        headers = tracing.headers()
    inner, outer = spans.get_finished_spans()
    assert outer.context is not None
    assert f"{outer.context.trace_id:032x}" == TRACE
    assert outer.parent is not None
    assert f"{outer.parent.span_id:016x}" == SPAN
    assert outer.name == "pkg.Svc/Method"
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert inner.context is not None
    assert headers["traceparent"] == f"00-{TRACE}-{inner.context.span_id:016x}-01"


def test_on_a_call_without_a_trace_starts_its_own() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with OtelTracing(provider).rpc(RequestContext("r", "s/M")):
        pass
    assert spans.get_finished_spans()[0].parent is None


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "new\nline", "ünï"])
def test_a_malformed_request_id_is_replaced(sent: str) -> None:
    request = from_metadata("/s/M", [("x-request-id", sent)], None)
    assert request.request_id != sent
    assert len(request.request_id) == 32


def test_a_good_request_id_deadline_and_trace_are_kept() -> None:
    metadata = [("x-request-id", "my-id.1"), ("traceparent", PARENT)]
    request = from_metadata("/s/M", metadata, 5.0)
    assert request.request_id == "my-id.1"
    assert request.method == "s/M"
    assert request.trace_id == TRACE
    assert request.deadline is not None
    assert 4.0 < request.deadline.remaining() <= 5.0


@pytest.mark.parametrize("sent", ["junk", f"00-{'0' * 32}-{SPAN}-01", PARENT.upper()])
def test_a_malformed_trace_header_is_ignored(sent: str) -> None:
    assert from_metadata("/s/M", [("traceparent", sent)], None).trace_id == ""


def test_a_long_tracestate_is_cut_between_its_members() -> None:
    def kept(sent: str) -> str:
        metadata = [("traceparent", PARENT), ("tracestate", sent)]
        return from_metadata("/s/M", metadata, None).tracestate

    exact = f"a={'x' * 254},b={'y' * 253}"
    assert len(exact) == 512
    assert kept(exact) == exact
    assert kept(f"{exact},c=1") == exact
    assert kept(f"{exact}y") == f"a={'x' * 254}"
    assert kept(f"a={'x' * 600}") == ""


def test_a_tracestate_without_its_trace_is_dropped() -> None:
    assert from_metadata("/s/M", [("tracestate", "vendor=1")], None).tracestate == ""
