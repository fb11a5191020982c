"""What is deployed is what the generators write, asks for metrics that exist, and has a runbook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from headshot.telemetry.families import Families
from headshot.telemetry.metrics import Metrics
from headshot.triton.failures import classify
from prometheus_client import CollectorRegistry

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
SUFFIXES = ("_bucket", "_count", "_sum", "_total", "")


def groups(name: str) -> list[dict[str, Any]]:
    text = (RULES / name).read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def panels(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Return every expression that is deployed, by where it stands."""
    found = {
        f"{path.stem}/{panel['title']}/{target['refId']}": target["expr"]
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel["targets"]
    }
    found |= {f"alert/{rule['alert']}": rule["expr"] for rule in groups("alerts.yml")}
    found |= {f"record/{rule['record']}": rule["expr"] for rule in groups("recording.yml")}
    return found


@pytest.mark.parametrize(
    "script", ["prometheus/generate_rules.py", "grafana/generate_dashboards.py"]
)
def test_the_committed_files_are_what_the_generator_writes(script: str) -> None:
    command = [sys.executable, str(DEPLOY / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_metric_of_ours_that_is_asked_for_exists() -> None:
    registry = CollectorRegistry()
    Families(registry)
    known = {family.name + suffix for family in registry.collect() for suffix in SUFFIXES}
    recorded = {rule["record"] for rule in groups("recording.yml")}
    assert len(expressions()) > 90
    for place, expr in expressions().items():
        for name in re.findall(r"headshot_[a-z0-9_]+", expr):
            assert name in known, f"{place} asks for {name}"
        for name in re.findall(r"headshot:[a-z0-9_:]+", expr):
            assert name in recorded, f"{place} asks for {name}"


def test_every_code_that_the_error_budget_watches_stands_at_zero_before_it_occurs() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.known_methods(["headshot.v1.HeadshotService/CreateHeadshot"])
    watched = {
        (name, code)
        for rule in groups("recording.yml")
        for name, codes in re.findall(r'(headshot_\w+){[^}]*code=~"([^"]+)"', rule["expr"])
        for code in codes.split("|")
    }
    assert {name for name, _ in watched} == {
        "headshot_rpc_finished_total",
        "headshot_team_items_total",
    }
    for name, code in watched:
        method = {"method": "headshot.v1.HeadshotService/CreateHeadshot"} if "rpc" in name else {}
        found = metrics.registry.get_sample_value(name, {**method, "code": code})
        assert found == 0, (name, code)


def test_a_time_of_triton_is_divided_by_requests_since_triton_adds_it_for_each() -> None:
    timed = {place: expr for place, expr in expressions().items() if "_duration_us" in expr}
    assert len(timed) >= 3
    for place, expr in timed.items():
        assert "nv_inference_request_success" in expr, place


@pytest.mark.parametrize("details", ["Exceeds maximum queue size", "Request timeout expired"])
def test_a_models_full_queue_is_lack_of_room(details: str) -> None:
    nothing = grpc.aio.Metadata()
    refusal = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details)
    reason = classify(refusal, "denoiser", deadline_expired=False).error.reason
    rules = [rule for rule in groups("recording.yml") if "rpc_error_ratio" in rule["record"]]
    rules += [rule for rule in groups("alerts.yml") if rule["alert"] == "HeadshotShedding"]
    assert len(rules) > 5
    for rule in rules:
        counted = re.search(r'admission_shed_total\{reason=~"([^"]+)"', rule["expr"])
        assert counted is not None
        assert re.fullmatch(counted[1], reason)


def test_every_alert_has_a_severity_and_a_runbook_section() -> None:
    headings = {
        line.removeprefix("### ").strip().lower()
        for line in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("### ")
    }
    alerts = groups("alerts.yml")
    assert len(alerts) > 20
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page.endswith("docs/operations.md")
        assert anchor in headings, rule["alert"]
    assert headings <= {rule["alert"].lower() for rule in alerts}


def test_every_latency_bound_is_a_bucket_of_its_histogram() -> None:
    registry = CollectorRegistry()
    Families(registry).rpc_duration.labels("m", "OK")
    bounds = {
        sample.labels["le"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "headshot_rpc_duration_seconds_bucket"
    }
    asked = {
        bound
        for expr in expressions().values()
        for bound in re.findall(r'headshot_rpc_duration_seconds_bucket{[^}]*le="([^"]+)"', expr)
    }
    assert asked
    assert asked <= bounds


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_laid_out_without_overlaps_and_explains_its_panels(path: Path) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)
