"""Write rules/recording.yml and rules/alerts.yml: `python deploy/prometheus/generate_rules.py`.

The same ratio is recorded over seven windows and each burn-rate alert joins two of them, so the
files are generated; `--check` says whether the committed ones are what this script writes.

Objectives (change them here, then run the script):
  availability  99.5 % of the service's requests (RPCs, and the items of team calls) do not fail by
                its own fault or for lack of room; a caller's deadline that is shorter than such
                work ever took is no fault of the service;
  latency       95 % of successful CreateHeadshot calls take at most 20 s (compact profile, CPU;
                a GPU deployment sets 3 s). The bound must be a bucket of the histogram.
Burn rates and windows: Site Reliability Workbook, chapter 5, table 5-8.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "rules"
# Relative to the repository; set the address under which your operators read it.
RUNBOOK = "docs/operations.md"

AVAILABILITY = 0.995
LATENCY = 0.95
LATENCY_BOUND = "20.0"

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
SERVICE = 'method=~"headshot[.]v1[.].*"'
OWN_FAULT = 'code=~"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"'
NO_ROOM = "QUEUE_FULL|QUEUE_WAIT_TOO_LONG|DISPLACED|MODEL_QUEUE_FULL|MODEL_QUEUE_TIMEOUT"
CREATE = 'method="headshot.v1.HeadshotService/CreateHeadshot",code="OK"'


def rpcs(window: str, match: str = "") -> str:
    """Return the rate of the service's finished RPCs."""
    return f"sum(rate(headshot_rpc_finished_total{{{SERVICE}{match and ','}{match}}}[{window}]))"


def items(window: str, match: str = "") -> str:
    """Return the rate of the ended items of team calls; 0 where nobody counts them."""
    return f"(sum(rate(headshot_team_items_total{{{match}}}[{window}])) or vector(0))"


def requests(window: str) -> str:
    """Return the rate of all requests: admission admits and refuses each item of a team call."""
    return f"({rpcs(window)} + {items(window)})"


def shed(window: str) -> str:
    """Return the rate of the requests, RPCs and items, that found no room."""
    return (
        f'(sum(rate(headshot_admission_shed_total{{reason=~"{NO_ROOM}"}}[{window}])) or vector(0))'
    )


def hopeless(window: str) -> str:
    """Return the rate of the requests whose deadline even the fastest work would have missed."""
    return f"(sum(rate(headshot_deadline_hopeless_total[{window}])) or vector(0))"


def recording() -> dict[str, Any]:
    """Return the recording rules: error and slow ratios over each window, and panel helpers."""
    rules = []
    for window in WINDOWS:
        failed = f"({rpcs(window, OWN_FAULT)} or vector(0)) + {items(window, OWN_FAULT)}"
        # Counters are scraped at different moments of a call: never less than nothing.
        failed = f"clamp_min({failed} - {hopeless(window)}, 0)"
        rules.append(
            {
                "record": f"headshot:rpc_error_ratio:rate{window}",
                "expr": f"({failed} + {shed(window)}) / ({requests(window)} > 0)",
            }
        )
        fast = (
            f'sum(rate(headshot_rpc_duration_seconds_bucket{{{CREATE},le="{LATENCY_BOUND}"}}'
            f"[{window}]))"
        )
        every = f"sum(rate(headshot_rpc_duration_seconds_count{{{CREATE}}}[{window}]))"
        rules.append(
            {
                "record": f"headshot:rpc_slow_ratio:rate{window}",
                "expr": f"1 - {fast} / ({every} > 0)",
            }
        )
    helpers = [
        (
            "headshot:rpc_requests:rate5m",
            "sum by (method, code) (rate(headshot_rpc_finished_total[5m]))",
        ),
        (
            "headshot:stage_seconds:mean5m",
            "sum by (stage, part) (rate(headshot_stage_duration_seconds_sum[5m]))"
            " / (sum by (stage, part) (rate(headshot_stage_duration_seconds_count[5m])) > 0)",
        ),
        (
            "headshot:identity_similarity:mean1h",
            "sum(rate(headshot_identity_similarity_sum[1h]))"
            " / (sum(rate(headshot_identity_similarity_count[1h])) > 0)",
        ),
        (
            "headshot:photo_refusal_ratio:rate1h",
            "(sum(rate(headshot_photo_refusals_total[1h])) or vector(0))"
            " / (sum(rate(headshot_photos_total[1h])) > 0)",
        ),
        (
            "headshot:other_person_ratio:rate1h",
            '(sum(rate(headshot_verifications_total{outcome="other_person"}[1h])) or vector(0))'
            " / (sum(rate(headshot_verifications_total[1h])) > 0)",
        ),
    ]
    return {
        "groups": [
            {"name": "headshot-slo", "interval": "30s", "rules": rules},
            {
                "name": "headshot-helpers",
                "rules": [{"record": name, "expr": expr} for name, expr in helpers],
            },
        ]
    }


def alert(
    name: str, expr: str, severity: str, summary: str, *, wait: str = "5m", **more: str
) -> dict[str, Any]:
    """Return one alert; its runbook section in docs/operations.md has the alert's name."""
    return {
        "alert": name,
        "expr": expr,
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            **more,
            "runbook_url": f"{RUNBOOK}#{name.lower()}",
        },
    }


def unscraped(job: str) -> str:
    """Return what is true of each target of a job that is down, and where there is no target."""
    return f'min by (instance) (up{{job="{job}"}}) < 1 or absent(up{{job="{job}"}})'


def burn(ratio: str, objective: float, name: str, what: str) -> list[dict[str, Any]]:
    """Return the fast (page) and slow (ticket) burn-rate alerts of one objective."""
    budget = round(1 - objective, 6)

    def both(factor: float, long: str, short: str) -> str:
        bound = round(factor * budget, 6)
        return f"(headshot:{ratio}:rate{long} > {bound} and headshot:{ratio}:rate{short} > {bound})"

    fast = f"{both(14.4, '1h', '5m')} or {both(6, '6h', '30m')}"
    slow = f"{both(3, '1d', '2h')} or {both(1, '3d', '6h')}"
    if 14.4 * budget >= 1:
        # A ratio cannot pass 1: with this budget only slower burns can be told apart.
        fast = both(6, "6h", "30m")
    return [
        alert(
            f"{name}BurnFast",
            fast,
            "page",
            f"{what}: the month's error budget goes within days",
            wait="2m",
        ),
        alert(
            f"{name}BurnSlow",
            slow,
            "ticket",
            f"{what}: the month's error budget will not last",
            wait="15m",
        ),
    ]


def alerts() -> dict[str, Any]:
    """Return the alerts, in groups."""
    slo = [
        *burn("rpc_error_ratio", AVAILABILITY, "HeadshotErrorBudget", "requests fail"),
        *burn("rpc_slow_ratio", LATENCY, "HeadshotLatencyBudget", "headshots are slow"),
    ]
    # A caller that went away is no failure.
    failures = 'sum by (model) (rate(nv_inference_request_failure{reason!="CANCELED"}[5m]))'
    availability = [
        alert(
            "HeadshotDown",
            unscraped("headshot"),
            "page",
            "a gateway does not answer scrapes, or Prometheus knows of none",
            wait="2m",
        ),
        alert(
            "HeadshotNotReady",
            "min by (instance) (headshot_ready) < 1",
            "page",
            "a gateway is up and not ready",
        ),
        alert(
            "HeadshotTritonEndpointDown",
            "min by (endpoint) (headshot_triton_endpoint_up) < 1",
            "page",
            "Triton at {{ $labels.endpoint }} is down",
            wait="2m",
        ),
        alert(
            "HeadshotTritonNotScraped",
            unscraped("headshot-triton"),
            "ticket",
            "a Triton does not answer scrapes, or Prometheus knows of none",
            wait="10m",
        ),
        alert(
            "HeadshotTritonRestarting",
            "sum by (instance) (increase(headshot_triton_restarts_total[30m])) > 2",
            "page",
            "the embedded Triton keeps dying",
            wait="0m",
        ),
        alert(
            "HeadshotTritonFailures",
            f"{failures} / (sum by (model) (rate(nv_inference_request_success[5m]))"
            f" + {failures} > 0) > 0.05",
            "ticket",
            "more than 5 % of {{ $labels.model }}'s executions fail",
        ),
        alert(
            "HeadshotEventLoopLagging",
            "histogram_quantile(0.99, sum by (le, instance)"
            " (rate(headshot_event_loop_lag_seconds_bucket[5m]))) > 0.5",
            "ticket",
            "something blocks the gateway's event loop",
        ),
    ]
    capacity = [
        alert(
            "HeadshotQueueFilling",
            "sum(headshot_admission_queued) / (sum(headshot_admission_queue_limit) > 0) > 0.8",
            "ticket",
            "the admission queue is over 80 % full",
            wait="10m",
        ),
        alert(
            "HeadshotShedding",
            f"{shed('5m')} / ({requests('5m')} > 0) > 0.05",
            "page",
            "more than 5 % of the requests are refused for load",
            wait="10m",
        ),
        alert(
            "HeadshotTenantThrottled",
            'sum by (tenant) (rate(headshot_admission_shed_total{reason=~"TENANT_.*"}[15m])) > 0.1',
            "info",
            "tenant {{ $labels.tenant }} is over its quota",
            wait="15m",
        ),
        alert(
            "HeadshotDeadlinesMissed",
            "((sum(rate(headshot_deadline_missed_total[10m])) or vector(0))"
            " + (sum(rate(headshot_admission_expired_total[10m])) or vector(0)))"
            f" / ({requests('10m')} > 0) > 0.05",
            "ticket",
            "more than 5 % of the requests miss their deadline",
            wait="10m",
        ),
        alert(
            "HeadshotDegrading",
            "(sum(rate(headshot_degraded_requests_total[15m])) or vector(0))"
            " / (sum(rate(headshot_headshots_total[15m])) > 0) > 0.2",
            "ticket",
            "more than 20 % of the headshots are made with less than was asked for",
            wait="15m",
        ),
        alert(
            "HeadshotTritonQueueLong",
            "sum by (model) (rate(nv_inference_queue_duration_us[5m]))"
            " / (sum by (model) (rate(nv_inference_request_success[5m])) > 0) / 1e6 > 2",
            "ticket",
            "requests wait over 2 s in Triton's queue of {{ $labels.model }}",
            wait="10m",
        ),
        alert(
            "HeadshotGpuMemoryFull",
            "max by (gpu_uuid) (nv_gpu_memory_used_bytes / nv_gpu_memory_total_bytes) > 0.95",
            "ticket",
            "a GPU's memory is over 95 % full",
            wait="15m",
        ),
    ]
    quality = [
        alert(
            "HeadshotIdentityDrift",
            "(headshot:identity_similarity:mean1h - headshot:identity_similarity:mean1h offset 1d)"
            " < -0.05",
            "ticket",
            "headshots look less like the person than a day ago",
            wait="1h",
        ),
        alert(
            "HeadshotOtherPerson",
            "headshot:other_person_ratio:rate1h > 0.15",
            "page",
            "more than 15 % of the headshots are not the person",
            wait="30m",
        ),
        alert(
            "HeadshotRegenerating",
            "(sum(rate(headshot_regenerations_total[1h])) or vector(0))"
            " / (sum(rate(headshot_headshots_total[1h])) > 0) > 0.5",
            "ticket",
            "candidates are made again more than once for every two headshots",
            wait="30m",
        ),
        alert(
            "HeadshotQualityRejections",
            "(sum(rate(headshot_quality_rejections_total[1h])) or vector(0))"
            " / (sum(rate(headshot_headshots_total[1h])) > 0) > 0.5",
            "ticket",
            "the quality rules reject a candidate of every second headshot",
            wait="30m",
        ),
        alert(
            "HeadshotPhotoRefusals",
            "headshot:photo_refusal_ratio:rate1h > 0.5",
            "info",
            "more than half of the photos are refused",
            wait="1h",
        ),
    ]
    security = [
        alert(
            "HeadshotAuthFailures",
            "(sum(rate(headshot_auth_failures_total[5m])) or vector(0)) > 1",
            "ticket",
            "more than one call a second without valid credentials",
            wait="10m",
        ),
        alert(
            "HeadshotForgedTemplates",
            '(sum(increase(headshot_templates_total{event="TEMPLATE_FORGED"}[1h]))'
            " or vector(0)) > 10",
            "ticket",
            "somebody sends templates that are not ours",
            wait="0m",
        ),
        alert(
            "HeadshotCertificateExpiring",
            "min by (instance) (headshot_tls_certificate_expiry_timestamp_seconds > 0)"
            " - time() < 14 * 86400",
            "ticket",
            "the TLS certificate ends within 14 days",
            wait="1h",
        ),
        alert(
            "HeadshotConfigReloadFailed",
            "max by (file) (headshot_config_stale) > 0",
            "ticket",
            "the new version of {{ $labels.file }} does not load; the old one is in force",
            wait="0m",
        ),
        alert(
            "HeadshotAuditFailing",
            '(sum(increase(headshot_audit_records_total{outcome="failed"}[5m])) or vector(0)) > 0',
            "page",
            "audit records cannot be written",
            wait="0m",
        ),
    ]
    return {
        "groups": [
            {"name": "headshot-slo-alerts", "rules": slo},
            {"name": "headshot-availability", "rules": availability},
            {"name": "headshot-capacity", "rules": capacity},
            {"name": "headshot-quality", "rules": quality},
            {"name": "headshot-security", "rules": security},
        ]
    }


def files() -> dict[Path, str]:
    """Return each file's path and text."""
    note = "# Written by deploy/prometheus/generate_rules.py; change that and run it.\n"
    return {
        FOLDER / name: note + yaml.safe_dump(content, sort_keys=False, width=100)
        for name, content in (("recording.yml", recording()), ("alerts.yml", alerts()))
    }


def main() -> int:
    """Write the files, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="only say whether they are fresh")
    check = parser.parse_args().check
    stale = [
        path
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if check:
            print(f"{path} is not what the script writes")
        else:
            path.write_text(files()[path], encoding="utf-8")
            print(f"wrote {path}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
