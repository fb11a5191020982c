from __future__ import annotations

import contextvars
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from headshot.telemetry import context as request_context
from headshot.telemetry import multiprocess
from headshot.telemetry.labels import OTHER, BoundedLabel
from headshot.telemetry.metrics import Metrics, exemplar
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import (
    text_string_to_metric_families as plain_families,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"headshot_{name}", labels)


def in_request(traceparent: str = "", request_id: str = "req-1") -> contextvars.Context:
    copied = contextvars.copy_context()
    request = request_context.RequestContext(
        request_id=request_id, method="s/M", traceparent=traceparent
    )
    copied.run(request_context.activate, request)
    return copied


def test_a_tenant_that_is_not_configured_shares_the_label_other(metrics: Metrics) -> None:
    metrics.known_tenants(["website"])
    metrics.shed("website", "QUEUE_FULL")
    for number in range(100):
        metrics.shed(f"stranger-{number}", "QUEUE_FULL")
    assert value(metrics, "admission_shed_total", tenant="website", reason="QUEUE_FULL") == 1
    assert value(metrics, "admission_shed_total", tenant=OTHER, reason="QUEUE_FULL") == 100


def test_tenants_beyond_the_limit_share_the_label_other() -> None:
    metrics = Metrics(CollectorRegistry(), max_tenants=3)
    metrics.known_tenants([f"t{number}" for number in range(9)])
    labels = {metrics.tenant_label(f"t{number}") for number in range(9)}
    # "anonymous" takes the third place.
    assert labels == {"t0", "t1", OTHER}


def test_reasons_from_hostile_input_do_not_become_labels(metrics: Metrics) -> None:
    metrics.photo_refused("BLURRED")
    for number in range(500):
        metrics.photo_refused(f"/home/somebody/{number}.jpg")
        metrics.photo_refused("x" * (100 + number))
    reasons = {
        sample.labels["reason"]
        for family in metrics.registry.collect()
        if family.name == "headshot_photo_refusals"
        for sample in family.samples
    }
    assert reasons == {"BLURRED", OTHER}


def test_an_open_label_stops_growing_at_its_limit() -> None:
    label = BoundedLabel(5)
    assert len({label(f"REASON_{number}") for number in range(100)}) == 6


def test_rates_errors_and_durations_are_kept_by_method_and_code(metrics: Metrics) -> None:
    metrics.known_methods(["s/M"])
    for code in ("OK", "OK", "UNAVAILABLE"):
        metrics.rpc_started("s/M")
        metrics.rpc_finished("s/M", code, "anonymous", 0.3)
    assert value(metrics, "rpc_duration_seconds_count", method="s/M", code="OK") == 2
    assert value(metrics, "rpc_duration_seconds_count", method="s/M", code="UNAVAILABLE") == 1
    assert value(metrics, "rpc_finished_total", method="s/M", code="OK") == 2
    assert value(metrics, "rpc_finished_total", method="s/M", code="UNAVAILABLE") == 1
    assert value(metrics, "rpc_in_flight", method="s/M") == 0
    assert value(metrics, "rpc_started_total", method="s/M") == 3


def test_an_item_of_a_team_is_kept_by_the_name_of_its_code(metrics: Metrics) -> None:
    for code in (0, 0, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], 4711):
        metrics.team_item(code)
    assert value(metrics, "team_items_total", code="OK") == 2
    assert value(metrics, "team_items_total", code="RESOURCE_EXHAUSTED") == 1
    assert value(metrics, "team_items_total", code="UNKNOWN") == 1


def test_a_request_that_gives_up_several_things_is_one_degraded_request(metrics: Metrics) -> None:
    metrics.degraded(())
    metrics.degraded(("fewer_candidates",))
    metrics.degraded(("fewer_candidates", "fewer_steps", "smaller_renditions"))
    assert value(metrics, "degraded_total", action="fewer_candidates") == 2
    assert value(metrics, "degraded_total", action="smaller_renditions") == 1
    assert value(metrics, "degraded_requests_total") == 2


def test_a_stage_is_split_into_queue_wire_and_compute(metrics: Metrics) -> None:
    metrics.observe_stage("denoise", queue_s=0.1, wire_s=0.02, compute_s=0.5)
    sums = {
        part: value(metrics, "stage_duration_seconds_sum", stage="denoise", part=part)
        for part in ("queue", "wire", "compute")
    }
    assert sums == {"queue": 0.1, "wire": 0.02, "compute": 0.5}


def test_a_stage_also_lands_on_the_access_line_of_its_request(metrics: Metrics) -> None:
    copied = in_request()
    copied.run(metrics.observe_stage, "matte", 0.0, 0.01, 0.2)
    copied.run(metrics.observe_stage, "matte", 0.0, 0.01, 0.3)
    current = copied.run(request_context.current)
    assert current is not None
    assert current.stages["matte"].calls == 2
    assert current.stages["matte"].compute_s == pytest.approx(0.5)


def test_openmetrics_carries_exemplars_with_trace_and_request_id(metrics: Metrics) -> None:
    metrics.known_methods(["s/M"])
    copied = in_request(traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    copied.run(metrics.rpc_finished, "s/M", "OK", "anonymous", 0.2)
    body, content_type = metrics.exposition(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    found = [
        sample.exemplar.labels
        for family in text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    ]
    assert found == [{"request_id": "req-1", "trace_id": TRACE}]


def test_a_scrape_without_an_accept_header_gets_the_plain_format(metrics: Metrics) -> None:
    body, content_type = metrics.exposition("")
    assert content_type.startswith("text/plain; version=0.0.4")
    names = {family.name for family in plain_families(body.decode())}
    assert "headshot_build_info" in names


def test_every_series_has_the_prefix_and_a_help_text(metrics: Metrics) -> None:
    families = list(metrics.registry.collect())
    assert len(families) > 35
    assert all(family.name.startswith("headshot_") for family in families)
    assert all(family.documentation.endswith(".") for family in families)


def test_an_exemplar_that_would_be_too_long_keeps_the_trace(metrics: Metrics) -> None:
    trace = in_request(f"00-{TRACE}-00f067aa0ba902b7-01", request_id="x" * 79)
    assert trace.run(exemplar) == {"trace_id": TRACE}
    shorter = in_request(f"00-{TRACE}-00f067aa0ba902b7-01", request_id="x" * 78)
    assert shorter.run(exemplar) == {"request_id": "x" * 78, "trace_id": TRACE}
    assert in_request(request_id="x" * 119).run(exemplar) is None
    for copied in (trace, shorter):  # the library refuses longer ones, and with them the value
        copied.run(metrics.observe_stage, "matte", 0.0, 0.0, 0.1)


def test_outside_a_request_there_is_no_exemplar() -> None:
    assert contextvars.Context().run(exemplar) is None


WORKER = """
from headshot.telemetry.metrics import Metrics
metrics = Metrics()
metrics.known_methods(["s/M"])
for _ in range(3):
    metrics.rpc_started("s/M")
metrics.rpc_finished("s/M", "OK", "anonymous", 0.1)
metrics.triton_endpoint("127.0.0.1:8001", up=UP)
print(metrics.exposition()[0].decode())
"""


def test_several_workers_show_their_sum_whichever_is_asked(tmp_path: Path) -> None:
    environment = multiprocess.prepare(tmp_path)
    outputs = [
        subprocess.run(
            [sys.executable, "-c", WORKER.replace("UP", up)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for up in ("True", "False")
    ]
    samples = {
        (sample.name, sample.labels.get("method", "")): sample.value
        for family in plain_families(outputs[-1])
        for sample in family.samples
    }
    assert samples["headshot_rpc_started_total", "s/M"] == 6
    multiprocess.clean(environment)
    assert list(tmp_path.iterdir()) == []


def shown(metrics: Metrics) -> dict[str, list[float]]:
    """Return the values of the series without labels, by name."""
    found: dict[str, list[float]] = {}
    for family in plain_families(metrics.exposition()[0].decode()):
        for sample in family.samples:
            if not sample.labels:
                found.setdefault(sample.name, []).append(sample.value)
    return found


def test_the_supervisor_shows_its_own_restarts_and_readiness_beside_its_workers_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the supervisor does it: the library is imported before the folder is known.
    environment = multiprocess.prepare(tmp_path)
    for name, folder in environment.items():
        monkeypatch.setenv(name, folder)
    supervisor = Metrics(runs_workers=True)
    assert shown(supervisor)["headshot_triton_restarts_total"] == [0.0]
    worker = WORKER.replace("UP", "True").replace("print", "metrics.ready(True) #")
    subprocess.run([sys.executable, "-c", worker], check=True)
    for _ in range(3):
        supervisor.triton_restarted()
    assert shown(supervisor)["headshot_triton_restarts_total"] == [3.0]
    assert shown(supervisor)["headshot_ready"] == [0.0]
    supervisor.ready(True)
    assert shown(supervisor)["headshot_ready"] == [1.0]
    merged = plain_families(supervisor.exposition()[0].decode())
    assert next(
        sample.value
        for family in merged
        for sample in family.samples
        if sample.name == "headshot_rpc_started_total" and sample.labels == {"method": "s/M"}
    ) == 3.0  # fmt: skip


def test_leftovers_of_a_dead_supervisor_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"headshot-metrics-{ended.pid}-abc"
    left.mkdir()
    environment = multiprocess.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [
        Path(environment[multiprocess.VARIABLE]).name
    ]
