"""The operations port: /metrics, /livez, /readyz, /metrics/triton.

It runs in a thread of its own, so that health never queues behind photos: a full admission queue,
or an event loop busy with a big request, does not make an orchestrator kill a working process.
"""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from headshot.telemetry.metrics import Metrics

_CLIENT_TIMEOUT_S = 5.0
_TRITON_TIMEOUT_S = 2.0
_TRITON_LIMIT_BYTES = 8 << 20


@dataclass(frozen=True)
class Health:
    """The answer of a health question.

    Attributes:
        ok: True answers 200, False 503.
        reasons: short texts that say what is missing; they are sent to whoever asks, so they hold
            no secrets and no paths.
    """

    ok: bool
    reasons: tuple[str, ...] = ()

    def also(self, other: Health) -> Health:
        """Return the answer when this and another must both be well."""
        return Health(self.ok and other.ok, self.reasons + other.reasons)


HealthCheck = Callable[[], Health]


def always_healthy() -> Health:
    """Answer that all is well."""
    return Health(ok=True)


class OperationsServer:
    """Serves metrics and health over plain HTTP/1.1.

    Args:
        metrics: what /metrics shows.
        readiness: called for /readyz and /metrics from another thread; must be quick and
            thread-safe.
        liveness: called for /livez; a process that cannot recover by itself says no here.
        triton_metrics_url: where /metrics/triton is fetched from, asked for on each scrape because
            the embedded server's port can change; None, or returning None, answers 404.
        host: address to listen on, IPv6 with or without brackets; loopback unless told otherwise.
        port: 0 picks a free one.

    Raises:
        OSError: the address cannot be had; the text names it.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        readiness: HealthCheck,
        liveness: HealthCheck = always_healthy,
        triton_metrics_url: Callable[[], str | None] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._liveness = liveness
        self._triton_metrics_url = triton_metrics_url
        self._server = _bound(host, port, self._handler())
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Return the port that is bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve, in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._server.serve_forever,
                kwargs={"poll_interval": 0.2},
                name="headshot-operations",
                daemon=True,
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def _respond(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            # Asked here, since an event loop that is stuck does not tell that it is.
            self._metrics.ready(self._readiness().ok)
            body, content_type = self._metrics.exposition(accept)
            return HTTPStatus.OK, content_type, body
        if path == "/livez":
            return _health(self._liveness)
        if path == "/readyz":
            return _health(self._readiness)
        if path == "/metrics/triton":
            return self._triton()
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"not found\n"

    def _triton(self) -> tuple[HTTPStatus, str, bytes]:
        url = self._triton_metrics_url() if self._triton_metrics_url else None
        if url is None or not url.startswith(("http://", "https://")):
            return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"no embedded server\n"
        try:
            with urllib.request.urlopen(url, timeout=_TRITON_TIMEOUT_S) as answer:  # noqa: S310 - scheme checked
                body: bytes = answer.read(_TRITON_LIMIT_BYTES + 1)
                content_type = answer.headers.get("Content-Type") or "text/plain; version=0.0.4"
        except (urllib.error.URLError, TimeoutError, OSError):
            text = b"the embedded server does not answer\n"
            return HTTPStatus.BAD_GATEWAY, "text/plain; charset=utf-8", text
        if len(body) > _TRITON_LIMIT_BYTES:
            # Cut somewhere, the last number could be a wrong one.
            text = b"the embedded server's metrics are too long\n"
            return HTTPStatus.BAD_GATEWAY, "text/plain; charset=utf-8", text
        if "version=" not in content_type:
            # Triton names no exposition version, and Prometheus 3 refuses a bare text/plain.
            content_type = "text/plain; version=0.0.4; charset=utf-8"
        return HTTPStatus.OK, content_type, body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        respond = self._respond

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "headshot"
            sys_version = ""
            timeout = _CLIENT_TIMEOUT_S

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def _answer(self, *, with_body: bool) -> None:
                path = self.path.partition("?")[0]
                try:
                    status, content_type, body = respond(path, self.headers.get("Accept", ""))
                except Exception:
                    # A bug in a callback must not take the health port down; the answer says so.
                    status, content_type = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain"
                    body = b"internal error\n"
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Keep scrapes and probes out of the log."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family, plain = plain_address(host)
        super().__init__((plain, port), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up half-way; the base class would print a traceback."""


def plain_address(host: str) -> tuple[socket.AddressFamily, str]:
    """Return an address as sockets want it, without brackets, and its family."""
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), host.strip("[]")


def check_address(host: str, port: int) -> None:
    """Find out whether the operations port can be had, before anything that takes long is started.

    Raises:
        OSError: it cannot; the text names the address.
    """
    _bound(host, port, BaseHTTPRequestHandler).server_close()


def _bound(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    try:
        return _Server(host, port, handler)
    except OSError as error:
        raise OSError(f"the operations port {host}:{port}: {error.strerror}") from None


def _health(check: HealthCheck) -> tuple[HTTPStatus, str, bytes]:
    health = check()
    status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
    body = json.dumps({"ok": health.ok, "reasons": list(health.reasons)}).encode() + b"\n"
    return status, "application/json", body
