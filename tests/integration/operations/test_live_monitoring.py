"""A real Prometheus scrapes the running service; every panel and alert must have data."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaos.harness import ROOT, serve, serving_repository
from tests.integration.operations.traffic import Traffic, secured

RULES = ROOT / "deploy" / "prometheus" / "rules"
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
PATIENCE_S = 120.0


def deployed_expressions() -> dict[str, str]:
    """Return the expressions of all panels and alerts, ready to be asked."""
    found = {}
    for path in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                name = f"{path.stem}/{panel['title']}/{target['refId']}"
                found[name] = target["expr"].replace("$__rate_interval", "1m")
    rules = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            found[f"alert/{rule['alert']}"] = without_threshold(rule["expr"])
    return found


def without_threshold(expr: str) -> str:
    """Make an alert's comparisons answer 0 or 1, so that a healthy service has data too.

    Guards against division by zero ("> 0)") stay filters.
    """
    depth = 0
    out = []
    for part in re.split(r"([()]| > | < )", expr):
        depth += {"(": 1, ")": -1}.get(part, 0)
        out.append(part)
        if part in (" > ", " < "):
            out[-1] = part + ("bool " if depth == 0 else "\0")
    text = "".join(out)
    # Inside brackets: thresholds are numbers other than 0.
    return re.sub(r"( [><] )\0(?=0\.|[1-9])", r"\1bool ", text).replace("\0", "")


def test_thresholds_become_questions_and_guards_stay() -> None:
    assert without_threshold("a / (b > 0) > 0.05") == "a / (b > 0) > bool 0.05"
    assert without_threshold("(x > 0.5 and y > 2) or (z > 0)") == (
        "(x > bool 0.5 and y > bool 2) or (z > 0)"
    )


def quiet_reason(name: str) -> str | None:
    """Return why this expression may have no data, None when it must have some."""
    text = (Path(__file__).parent / "quiet.yaml").read_text(encoding="utf-8")
    for pattern, reason in yaml.safe_load(text).items():
        if re.fullmatch(pattern, name):
            return str(reason)
    return None


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_accepts_the_rules_and_their_tests() -> None:
    assert PROMTOOL
    for arguments in (
        ["check", "rules", str(RULES / "recording.yml"), str(RULES / "alerts.yml")],
        ["check", "config", str(RULES.parent / "prometheus.yml")],
        ["test", "rules", str(RULES / "tests.yml"), str(RULES / "tests_over_days.yml")],
    ):
        done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_by_promtool_or_by_the_live_test() -> None:
    tried = {
        case["alertname"]
        for path in RULES.glob("tests*.yml")
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for case in test.get("alert_rule_test", ())
    }
    alerts = {name.removeprefix("alert/") for name in deployed_expressions() if "alert/" in name}
    assert tried <= alerts
    assert len(tried) >= 20


@asynccontextmanager
async def prometheus(folder: Path, operations_port: int) -> AsyncIterator[str]:
    """Run Prometheus with the deployed rules at a quick pace; yield its address."""
    assert PROMETHEUS
    for name in ("recording.yml", "alerts.yml"):
        rules = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))
        for group in rules["groups"]:
            group["interval"] = "1s"
        (folder / name).write_text(yaml.safe_dump(rules))
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = ["recording.yml", "alerts.yml"]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{operations_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
        "--enable-feature=exemplar-storage",
    )
    try:
        yield address
    finally:
        process.terminate()
        await process.wait()


def ask(address: str, path: str, **query: str) -> Any:
    """Return the data of a Prometheus API call."""
    url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        pytest.fail(f"{query}: {error.read().decode()}")


def without_data(address: str, names: dict[str, str]) -> list[str]:
    """Return the names of the expressions that have no data now."""
    return [name for name, expr in names.items() if not ask(address, "query", query=expr)["result"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian: prometheus)")
async def test_every_panel_and_alert_has_data_on_the_running_service(tmp_path: Path) -> None:
    repository, _ = serving_repository(tmp_path / "models")
    files = secured(tmp_path)
    async with (
        serve(repository, **files.settings) as gateway,
        prometheus(tmp_path, gateway.operations_port) as address,
    ):
        traffic = Traffic(gateway.address, files)
        asked = deployed_expressions()
        must = {name: expr for name, expr in asked.items() if quiet_reason(name) is None}
        assert len(must) > 0.85 * len(asked)
        missing = list(must)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while missing:
                    await traffic.a_bit_of_everything()
                    left = {name: must[name] for name in missing}
                    missing = await asyncio.to_thread(without_data, address, left)
        except TimeoutError:
            pytest.fail(f"no data for {missing} ({', '.join(traffic.codes)})")
        finally:
            await traffic.close()
        exemplars = await asyncio.to_thread(
            ask,
            address,
            "query_exemplars",
            query="headshot_rpc_duration_seconds_bucket",
            start="0",
            end="4102444800",
        )
        assert any("request_id" in item["labels"] for one in exemplars for item in one["exemplars"])
        targets = await asyncio.to_thread(ask, address, "targets")
        assert {target["health"] for target in targets["activeTargets"]} == {"up"}
