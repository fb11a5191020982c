"""Server interceptors, outermost first; `server_interceptors` is the one place of their order.

1. RequestContextInterceptor: request id, deadline and trace into a context variable, the id back
   to the caller. Everything below can rely on it.
2. TracingInterceptor: the server span (only when tracing is on).
3. MetricsInterceptor: counts every RPC with its final code, refused ones too.
4. AccessLogInterceptor: one line for each RPC, after its code is known.
5. ErrorInterceptor: turns exceptions of everything below into typed gRPC statuses.
6. AuthInterceptor: who calls; raises, and lets 5 answer.
7. MessageInterceptor: reads the message; raises when it is none, and lets 5 answer.
Then the servicer, which takes its permit from the AdmissionController. The gateway puts OpenCalls
before all of them.
"""

from __future__ import annotations

from headshot.api.interceptors.access_log import AccessLogInterceptor
from headshot.api.interceptors.auth import AuthInterceptor
from headshot.api.interceptors.errors import ErrorInterceptor
from headshot.api.interceptors.messages import MessageInterceptor
from headshot.api.interceptors.metrics import MetricsInterceptor
from headshot.api.interceptors.open_calls import OpenCalls
from headshot.api.interceptors.request_context import RequestContextInterceptor
from headshot.api.interceptors.tracing import TracingInterceptor
from headshot.api.interceptors.wrapping import Interceptor
from headshot.security.credentials import CredentialStore
from headshot.telemetry.metrics import Metrics
from headshot.telemetry.tracing import Tracing

__all__ = [
    "AccessLogInterceptor",
    "AuthInterceptor",
    "ErrorInterceptor",
    "MessageInterceptor",
    "MetricsInterceptor",
    "OpenCalls",
    "RequestContextInterceptor",
    "TracingInterceptor",
    "server_interceptors",
]


def server_interceptors(
    metrics: Metrics,
    tracing: Tracing,
    credentials: CredentialStore | None,
    *,
    message_s: float = 600.0,
) -> list[Interceptor]:
    """Return the interceptors for `grpc.aio.server`, in their order.

    Args:
        metrics: where RPCs are counted.
        tracing: where spans go; its interceptor is left out when it is off.
        credentials: None serves everybody as the tenant "anonymous".
        message_s: seconds within which a call's message must have arrived.
    """
    chain: list[Interceptor] = [RequestContextInterceptor()]
    if tracing.enabled:
        chain.append(TracingInterceptor(tracing))
    chain += [MetricsInterceptor(metrics), AccessLogInterceptor(), ErrorInterceptor(metrics)]
    if credentials is not None:
        chain.append(AuthInterceptor(credentials, metrics))
    chain.append(MessageInterceptor(message_s))
    return chain
