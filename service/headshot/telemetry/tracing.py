"""OpenTelemetry tracing: off by default, and then it costs a dictionary look-up.

Off, the W3C header of the caller still travels on to Triton, so that traces of others join up.
On, spans go to an OTLP endpoint; the SDK is imported only then (`pip install headshot[tracing]`).
Exceptions are not recorded: their texts and tracebacks may hold paths. A span has the RPC's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headshot.telemetry import context as request_context
from headshot.telemetry.context import RequestContext

Attribute = str | bool | int | float

# Server spans of other codes are the caller's doing (OpenTelemetry's conventions for gRPC).
_OUR_FAULT = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class Tracing(Protocol):
    """What the gateway needs of tracing."""

    enabled: bool

    def rpc(self, request: RequestContext) -> AbstractContextManager[object]:
        """Return the server span of an RPC, child of the caller's span when it sent one."""
        ...

    def ended(self, code: str) -> None:
        """Tell the current span the name of the gRPC code that its RPC ends with."""
        ...

    def span(
        self, name: str, attributes: Mapping[str, Attribute] | None = None
    ) -> AbstractContextManager[object]:
        """Return a span inside the current one. Attributes hold no pixels, vectors or paths."""
        ...

    def headers(self) -> dict[str, str]:
        """Return the W3C headers to send on (to Triton), empty when there are none."""
        ...

    def shutdown(self) -> None:
        """Flush what is not sent yet."""
        ...


class NullTracing:
    """Tracing that is off."""

    enabled = False
    _nothing: AbstractContextManager[None] = nullcontext()

    def rpc(self, request: RequestContext) -> AbstractContextManager[object]:
        """Return one shared context manager that does nothing."""
        return self._nothing

    def ended(self, code: str) -> None:
        """Do nothing."""

    def span(
        self, name: str, attributes: Mapping[str, Attribute] | None = None
    ) -> AbstractContextManager[object]:
        """Return one shared context manager that does nothing."""
        return self._nothing

    def headers(self) -> dict[str, str]:
        """Return the caller's own headers, unchanged."""
        current = request_context.current()
        if current is None or not current.traceparent:
            return {}
        headers = {"traceparent": current.traceparent}
        if current.tracestate:
            headers["tracestate"] = current.tracestate
        return headers

    def shutdown(self) -> None:
        """Do nothing."""


class OtelTracing:
    """Tracing through an OpenTelemetry tracer provider.

    Args:
        provider: where spans go.
    """

    enabled = True

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("headshot")
        self._propagator = TraceContextTextMapPropagator()

    def rpc(self, request: RequestContext) -> AbstractContextManager[object]:
        """Return the server span of an RPC."""
        carrier = {"traceparent": request.traceparent, "tracestate": request.tracestate}
        parent = self._propagator.extract(carrier, context=otel_context.Context())
        service, _, method = request.method.rpartition("/")
        return self._tracer.start_as_current_span(
            request.method,
            context=parent,
            kind=SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "headshot.request_id": request.request_id,
            },
        )

    def ended(self, code: str) -> None:
        """Put the code on the current span; an error only where the service is at fault."""
        span = trace.get_current_span()
        span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
        if code in _OUR_FAULT:
            span.set_status(StatusCode.ERROR, code)

    def span(
        self, name: str, attributes: Mapping[str, Attribute] | None = None
    ) -> AbstractContextManager[object]:
        """Return a span inside the current one."""
        return self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        )

    def headers(self) -> dict[str, str]:
        """Return the W3C headers of the current span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def shutdown(self) -> None:
        """Flush what is not sent yet."""
        end = getattr(self._provider, "shutdown", None)
        if end is not None:
            end()


def is_available() -> bool:
    """Whether the `tracing` extra is installed: the SDK and the exporter."""
    try:
        import opentelemetry.exporter.otlp.proto.grpc.trace_exporter  # noqa: PLC0415
        import opentelemetry.sdk.trace.export  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def configure(endpoint: str | None, *, service: str = "headshot", ratio: float = 1.0) -> Tracing:
    """Return the tracing to use.

    Args:
        endpoint: OTLP gRPC endpoint such as "http://localhost:4317"; None or empty is off.
        service: the `service.name` of the spans.
        ratio: share of new traces that are kept, 0 to 1; a caller's own decision is kept.

    Raises:
        RuntimeError: the SDK is asked for and not installed.
    """
    if not endpoint:
        return NullTracing()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError as error:
        raise RuntimeError("tracing needs the SDK: pip install 'headshot[tracing]'") from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=ParentBasedTraceIdRatio(ratio),
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    return OtelTracing(provider)
