"""What LoadGen is told: every sample completes, and failures void its verdict."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from loadtest.loadgen import main
from tests.unit.loadtest.fake_service import FakeServicer, serving

_WAIT_S = 20.0
app = typer.Typer()
app.command()(main)


class LoadGen(ModuleType):
    """Stands in for mlperf_loadgen, which is optional: issues 40 samples at once and waits."""

    TestMode = SimpleNamespace(PerformanceOnly=0)
    TestScenario = SimpleNamespace(Server=0, Offline=1)
    TestSettings = SimpleNamespace

    def __init__(self) -> None:
        super().__init__("mlperf_loadgen")
        self.open = 40
        self.done = threading.Event()

    def LogSettings(self) -> SimpleNamespace:
        return SimpleNamespace(log_output=SimpleNamespace())

    def ConstructSUT(self, issue: Any, _flush: Any) -> Any:
        return issue

    def ConstructQSL(self, *_: Any) -> None:
        return None

    def DestroySUT(self, _sut: Any) -> None: ...

    def DestroyQSL(self, _qsl: Any) -> None: ...

    def QuerySampleResponse(self, query: int, _address: int, _length: int) -> int:
        return query

    def QuerySamplesComplete(self, responses: list[int]) -> None:
        self.open -= len(responses)
        if not self.open:
            self.done.set()

    def StartTestWithLogSettings(self, issue: Any, *_: Any) -> None:
        issue([SimpleNamespace(id=k, index=k) for k in range(self.open)])
        assert self.done.wait(_WAIT_S), f"{self.open} samples never completed"


async def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, servicer: FakeServicer, *options: str
) -> Result:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", LoadGen())
    async with serving(servicer) as target:
        arguments = ["--target", target, "--kind", "matte", "--out", str(folder), *options]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def test_offline_has_a_bounded_number_of_requests_under_way(monkeypatch, tmp_path) -> None:
    servicer = FakeServicer(takes_s=0.02, most=8)
    offline = ("--scenario", "offline", "--in-flight", "8")
    result = await run(monkeypatch, tmp_path, servicer, *offline)
    assert result.exit_code == 0, result.output
    assert servicer.at_once == 8
    assert "failed requests: 0" in result.output


async def test_refused_requests_void_the_verdict(monkeypatch, tmp_path) -> None:
    servicer = FakeServicer(takes_s=0.05, most=8)
    result = await run(monkeypatch, tmp_path, servicer, "--scenario", "server")
    assert result.exit_code == 1
    assert "INVALID" in result.output
    assert "RESOURCE_EXHAUSTED: full" in result.output


async def test_an_error_of_the_generator_itself_completes_its_sample_too(
    monkeypatch, tmp_path
) -> None:
    result = await run(monkeypatch, tmp_path, FakeServicer(), "--kind", "team")
    assert result.exit_code == 1
    assert "INVALID" in result.output
