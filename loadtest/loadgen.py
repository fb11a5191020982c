"""MLPerf LoadGen against a running service, Server and Offline: a cross-check of our generator.

    pip install --require-hashes -r requirements/loadgen.txt
    python -m loadtest.loadgen --target 127.0.0.1:8051 --scenario server --qps 2

LoadGen calls back from a C++ thread; the requests themselves run on an event loop of their own.
Offline hands over all samples at once; a bounded number of them is under way, or the service would
refuse most. LoadGen knows no failures: where a request failed, its verdict does not count.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from headshot.client import AsyncHeadshotClient, RetryPolicy

from loadtest.requests import RequestMaker, example_photos
from loadtest.scenario import Work


class Sut:
    """The system under test as LoadGen sees it: issue a query, complete it later.

    Args:
        loadgen: the mlperf_loadgen module.
        target: host:port.
        maker: builds and sends the requests.
        in_flight: how many requests may be under way; None for any number.

    Attributes:
        failures: requests that failed so far.
        reason: why the last of them did.
    """

    def __init__(
        self, loadgen: Any, target: str, maker: RequestMaker, in_flight: int | None = None
    ) -> None:
        self._loadgen = loadgen
        self._target = target
        self._maker = maker
        self._room: contextlib.AbstractAsyncContextManager[object] = (
            contextlib.nullcontext() if in_flight is None else asyncio.Semaphore(in_flight)
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = asyncio.run_coroutine_threadsafe(self._connect(), self._loop).result(10)
        self.failures = 0
        self.reason = ""

    async def _connect(self) -> AsyncHeadshotClient:
        return AsyncHeadshotClient(self._target, retry=RetryPolicy(attempts=1))

    def issue(self, samples: list[Any]) -> None:
        """Send a query's samples; called by LoadGen's thread, must not wait."""
        for sample in samples:
            asyncio.run_coroutine_threadsafe(self._one(sample.id, sample.index), self._loop)

    async def _one(self, query: int, index: int) -> None:
        try:
            async with self._room:
                await self._maker.send(self._client, index)
        except Exception as error:
            # LoadGen waits for each sample, whatever became of it.
            self.failures += 1
            self.reason = str(error) or type(error).__name__
        data = array.array("B", b"\x00")
        address, length = data.buffer_info()
        response = self._loadgen.QuerySampleResponse(query, address, length)
        self._loadgen.QuerySamplesComplete([response])

    def close(self) -> None:
        """Close the connection and stop the loop."""
        closing = self._client.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(closing, self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def main(
    target: Annotated[str, typer.Option(help="host:port of a running service.")],
    scenario: Annotated[str, typer.Option(help="server or offline.")] = "server",
    qps: Annotated[float, typer.Option(help="Target rate (server), expected rate (offline).")] = 1,
    latency_s: Annotated[float, typer.Option(help="Latency objective of the server scenario.")] = 4,
    percentile: Annotated[
        float, typer.Option(help="Of the objective; 0.9 is VALID after some 64 queries.")
    ] = 0.99,
    seconds: Annotated[float, typer.Option(help="Shortest duration.")] = 60,
    queries: Annotated[int, typer.Option(help="Fewest queries; VALID needs about 460.")] = 460,
    in_flight: Annotated[
        int, typer.Option(help="Requests under way at once, offline scenario.", min=1)
    ] = 16,
    kind: Annotated[str, typer.Option(help="create, matte, verify, ...")] = "create",
    out: Annotated[Path, typer.Option(help="Folder for LoadGen's logs.")] = Path("out/loadgen"),
) -> None:
    """Run one scenario; LoadGen prints its own verdict. Fails where a request failed."""
    if scenario not in {"server", "offline"}:
        raise typer.BadParameter(f"--scenario wants server or offline, not {scenario!r}")
    try:
        import mlperf_loadgen as loadgen  # noqa: PLC0415 - optional
    except ImportError:
        raise SystemExit("pip install -r requirements/loadgen.txt first") from None
    settings = loadgen.TestSettings()
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(seconds * 1e3)
    settings.min_query_count = queries
    if scenario == "server":
        settings.scenario = loadgen.TestScenario.Server
        settings.server_target_qps = qps
        settings.server_target_latency_ns = int(latency_s * 1e9)
        settings.server_target_latency_percentile = percentile
    else:
        settings.scenario = loadgen.TestScenario.Offline
        settings.offline_expected_qps = qps
    work = Work.model_validate({"kind": kind, "renditions": ("web",), "timeout_s": 600})
    bound = in_flight if scenario == "offline" else None
    sut = Sut(loadgen, target, RequestMaker(work, example_photos(None)), bound)
    out.mkdir(parents=True, exist_ok=True)
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(out)
    logs.log_output.copy_summary_to_stdout = True
    system = loadgen.ConstructSUT(sut.issue, lambda: None)
    library = loadgen.ConstructQSL(64, 64, lambda _samples: None, lambda _samples: None)
    try:
        loadgen.StartTestWithLogSettings(system, library, settings, logs)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        sut.close()
    print(f"failed requests: {sut.failures}", file=sys.stderr)
    if sut.failures:
        print(f"INVALID: LoadGen counts failed requests as answers; the last: {sut.reason}")
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
