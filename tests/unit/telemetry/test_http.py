from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from headshot.telemetry.heartbeat import LoopHeartbeat
from headshot.telemetry.http import Health, OperationsServer, always_healthy, check_address
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry


class State:
    ready = Health(ok=True)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(state: State) -> Iterator[OperationsServer]:
    metrics = Metrics(CollectorRegistry())
    server = OperationsServer(metrics, readiness=lambda: state.ready, liveness=always_healthy)
    server.start()
    yield server
    server.stop()


def get(port: int, path: str, accept: str = "") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers={"Accept": accept})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers["Content-Type"], body


def test_readiness_follows_the_callback_and_says_why_not(
    server: OperationsServer, state: State
) -> None:
    assert get(server.port, "/readyz")[0] == 200
    state.ready = Health(ok=False, reasons=("denoiser: not loaded",))
    status, _, body = get(server.port, "/readyz")
    assert status == 503
    assert json.loads(body) == {"ok": False, "reasons": ["denoiser: not loaded"]}


def test_the_readiness_metric_is_that_of_the_scrape_whoever_else_tells_it(
    server: OperationsServer, state: State
) -> None:
    assert b"headshot_ready 1.0" in get(server.port, "/metrics")[2]
    stuck = Health(ok=False, reasons=("the event loop is stuck for 61 s",))
    state.ready = state.ready.also(stuck)
    assert b"headshot_ready 0.0" in get(server.port, "/metrics")[2]
    assert json.loads(get(server.port, "/readyz")[2])["reasons"] == list(stuck.reasons)


def test_liveness_stays_up_while_the_service_is_not_ready(
    server: OperationsServer, state: State
) -> None:
    state.ready = Health(ok=False)
    assert get(server.port, "/livez")[0] == 200


def test_openmetrics_is_negotiated(server: OperationsServer) -> None:
    assert get(server.port, "/metrics")[1].startswith("text/plain; version=0.0.4")
    content_type, body = get(server.port, "/metrics", "application/openmetrics-text")[1:]
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_is_listened_on(host: str) -> None:
    check_address(host, 0)
    server = OperationsServer(Metrics(CollectorRegistry()), readiness=always_healthy, host=host)
    server.start()
    try:
        connection = http.client.HTTPConnection("::1", server.port, timeout=5)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        server.stop()


def test_unknown_paths_are_not_found(server: OperationsServer) -> None:
    assert get(server.port, "/etc/passwd")[0] == 404
    assert get(server.port, "/metrics/triton")[0] == 404


def test_clients_that_never_finish_their_request_do_not_hold_up_health(
    server: OperationsServer,
) -> None:
    stuck = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for client in stuck:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
    assert get(server.port, "/livez")[0] == 200
    for client in stuck:
        client.close()


async def test_health_answers_while_the_event_loop_is_blocked(server: OperationsServer) -> None:
    answered = threading.Event()

    def ask() -> None:
        assert get(server.port, "/livez")[0] == 200
        answered.set()

    thread = threading.Thread(target=ask)
    thread.start()
    # Blocks this loop on purpose, as a decode on the loop would; the answer comes from a thread.
    assert answered.wait(timeout=5)
    thread.join()


def test_a_failing_callback_is_an_error_answer_not_a_dead_port() -> None:
    def broken() -> Health:
        raise RuntimeError("a bug")

    server = OperationsServer(Metrics(CollectorRegistry()), readiness=broken)
    server.start()
    try:
        assert get(server.port, "/readyz")[0] == 500
        assert get(server.port, "/livez")[0] == 200
    finally:
        server.stop()


class TritonMetrics(BaseHTTPRequestHandler):
    """Answers like Triton's metrics port: no version in the content type."""

    def do_GET(self) -> None:
        body = b"nv_inference_count 3\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def passing_on() -> Iterator[tuple[OperationsServer, list[str | None]]]:
    """Hand on the metrics of a Triton for the length of the block; its address can be changed."""
    triton = HTTPServer(("127.0.0.1", 0), TritonMetrics)
    thread = threading.Thread(target=triton.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url: list[str | None] = [f"http://127.0.0.1:{triton.server_address[1]}/metrics"]
    server = OperationsServer(
        Metrics(CollectorRegistry()), readiness=always_healthy, triton_metrics_url=lambda: url[0]
    )
    server.start()
    try:
        yield server, url
    finally:
        triton.shutdown()
        triton.server_close()
        thread.join()
        server.stop()


def test_the_embedded_servers_metrics_pass_through_with_a_version() -> None:
    with passing_on() as (server, url):
        status, content_type, body = get(server.port, "/metrics/triton")
        assert (status, body) == (200, b"nv_inference_count 3\n")
        assert "version=0.0.4" in content_type
        url[0] = "http://127.0.0.1:9/metrics"
        assert get(server.port, "/metrics/triton")[0] == 502
        url[0] = None
        assert get(server.port, "/metrics/triton")[0] == 404


def test_more_metrics_than_are_passed_on_are_refused_and_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with passing_on() as (server, _):
        monkeypatch.setattr("headshot.telemetry.http._TRITON_LIMIT_BYTES", 21)
        assert get(server.port, "/metrics/triton")[0] == 200
        monkeypatch.setattr("headshot.telemetry.http._TRITON_LIMIT_BYTES", 20)
        status, _, body = get(server.port, "/metrics/triton")
        assert (status, b"nv_" in body) == (502, False)


def test_a_loop_that_stops_beating_fails_liveness() -> None:
    now = [100.0]
    heartbeat = LoopHeartbeat(Metrics(CollectorRegistry()), stuck_after_s=60, clock=lambda: now[0])
    now[0] += 59
    assert heartbeat.health().ok
    now[0] += 2
    assert not heartbeat.health().ok
    heartbeat.beat()
    assert heartbeat.health().ok


async def test_the_heartbeat_records_the_loops_lag() -> None:
    metrics = Metrics(CollectorRegistry())
    looks = 0
    beaten = asyncio.Event()

    def clock() -> float:
        nonlocal looks
        looks += 1
        if looks > 6:
            beaten.set()
        return time.monotonic()

    task = asyncio.create_task(LoopHeartbeat(metrics, interval_s=0.01, clock=clock).run())
    async with asyncio.timeout(5):
        await beaten.wait()
    task.cancel()
    name = "headshot_event_loop_lag_seconds_count"
    assert (metrics.registry.get_sample_value(name) or 0) >= 2


async def test_only_what_a_beat_is_late_counts_as_lag() -> None:
    metrics = Metrics(CollectorRegistry())
    beaten = asyncio.Event()
    # Made, begun; a beat in time, looked at and noted; one that is 0.3 s late.
    times = [100.0, 100.0, 100.05, 100.05, 100.4, 100.4]

    def clock() -> float:
        if len(times) == 1:
            beaten.set()
            return times[0]
        return times.pop(0)

    task = asyncio.create_task(LoopHeartbeat(metrics, interval_s=0.05, clock=clock).run())
    async with asyncio.timeout(5):
        await beaten.wait()
    task.cancel()
    name = "headshot_event_loop_lag_seconds_sum"
    assert metrics.registry.get_sample_value(name) == pytest.approx(0.3)
