"""The gRPC server with what a process bears of calls and connections before admission counts."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from headshot.api.interceptors.wrapping import Interceptor
from headshot.config import Settings

# Admission refuses with a reason and a time to retry; gRPC's own limit does neither. It only has to
# stand between many open calls and the end of the memory, so it is far beyond what admission keeps.
_CHEAPEST = 4  # Calls of one permit: the cheapest costs a quarter.
_SPARE = 512  # Calls that are refused, slow readers, open team streams, watchers of health.
# A peer that is gone without a word is found, and its calls end, within the sum of these.
_KEEPALIVE_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000


def most_calls(settings: Settings) -> int:
    """Return how many calls may be open at once; gRPC refuses others without details."""
    return _CHEAPEST * settings.max_concurrency + settings.max_queue + _SPARE


def make_server(
    settings: Settings,
    interceptors: Sequence[Interceptor],
    options: Sequence[tuple[str, int]] = (),
) -> grpc.aio.Server:
    """Return a server with the limits of these settings.

    Args:
        settings: of the process.
        interceptors: outermost first.
        options: options of gRPC in place of those here.
    """
    most = most_calls(settings)
    limits = {
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": int(settings.workers > 1),
        # A proxy may send all calls over one connection: none of them shall wait in the proxy.
        "grpc.max_concurrent_streams": most,
        "grpc.keepalive_time_ms": _KEEPALIVE_MS,
        "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
        # Of the two, gRPC 1.85 goes by the second.
        "grpc.http2.ping_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 10_000,
    }
    return grpc.aio.server(
        interceptors=list(interceptors),
        options=list((limits | dict(options)).items()),
        maximum_concurrent_rpcs=most,
    )
