"""The load generator does not flatter what it measures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
import typer
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc

from loadtest.__main__ import main, verdict
from loadtest.access import Access
from loadtest.arrivals import Arrivals
from loadtest.baselines.inprocess import throughput
from loadtest.growth import Series
from loadtest.machine import describe
from loadtest.processes import MemoryReading, growth
from loadtest.report import page
from loadtest.runner import Generator, Sample, StageShare
from loadtest.scenario import Scenario, Work, load_scenario
from loadtest.search import highest_rate
from loadtest.summary import Summary, percentiles, summarise

SCENARIOS = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[3] / "loadtest/scenarios").glob("*.yaml")
)


def test_a_schedule_is_fixed_by_its_seed():
    one, same = (Arrivals("poisson", 5, 100, seed=3).times() for _ in range(2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, Arrivals("poisson", 5, 100, seed=4).times()[: len(one)])


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential():
    gaps = np.diff(Arrivals("poisson", 20, 500, seed=1).times())
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_steps_rise_from_the_first_rate_to_the_peak():
    times = Arrivals("step", 2, 100, seed=1, peak=20, steps=5).times()
    counts, _ = np.histogram(times, np.linspace(0, 100, 6))
    assert list(counts) == sorted(counts)
    assert counts[0] == pytest.approx(40, rel=0.4)
    assert counts[-1] == pytest.approx(400, rel=0.2)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_that_ships_is_valid_and_bounded(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.seconds <= 7200


def test_an_unknown_key_of_a_scenario_is_refused():
    with pytest.raises(ValueError, match="typo"):
        Scenario.model_validate({"name": "x", "description": "", "work": [], "typo": 1})


class SlowServicer(headshot_service_pb2_grpc.HeadshotServiceServicer):
    """A service that answers one matte at a time, each after 50 ms."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def Matte(self, request, context):
        async with self._one:
            await asyncio.sleep(0.05)
        return pb.MatteResponse()


async def test_latency_counts_the_queue_that_a_closed_loop_would_hide():
    server = grpc.aio.server()
    headshot_service_pb2_grpc.add_HeadshotServiceServicer_to_server(SlowServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        scenario = Scenario(
            name="t",
            description="",
            arrivals="constant",
            rate=40,
            seconds=1.5,
            warmup_s=0,
            work=(Work(kind="matte"),),
        )
        samples = await Generator(Access(f"127.0.0.1:{port}"), [b"x"]).run(scenario, 40)
    finally:
        await server.stop(0)
    assert len(samples) == 60
    summary = summarise(samples, 1.5)
    assert summary.codes == {"OK": 60}
    # 40 a second into 20 a second: the last request waits for about half of the run.
    assert summary.latency["p100"] > 1.0
    assert summary.latency["p50"] > 0.4
    assert summary.lag["p99"] < summary.latency["p50"]


def sample(at: float, latency: float, code: str = "OK", lag: float = 0.0) -> Sample:
    stages = {"denoise": StageShare(30, 5, 20, 2, 1.5)} if code == "OK" else {}
    return Sample("create", "", at, at + lag, at + latency, code, "", stages)


def test_refusals_are_counted_apart_from_latency():
    samples = [sample(k, 0.1) for k in range(10)]
    samples += [sample(k + 0.5, 0.001, "RESOURCE_EXHAUSTED") for k in range(5)]
    summary = summarise(samples, 30)
    assert summary.codes == {"OK": 10, "RESOURCE_EXHAUSTED": 5}
    assert summary.latency["p50"] == pytest.approx(0.1, rel=0.01)
    assert sum(summary.shed.values()) == 5


def test_the_generators_own_lateness_is_part_of_latency_and_reported():
    summary = summarise([sample(k, 0.5, lag=0.3) for k in range(10)], 10)
    assert summary.latency["p50"] == pytest.approx(0.5, rel=0.01)
    assert summary.uncorrected["p50"] == pytest.approx(0.2, rel=0.01)
    assert summary.lag["p50"] == pytest.approx(0.3, rel=0.01)


def test_the_offered_rate_is_that_of_the_schedule_however_few_requests_there_were():
    schedule = Arrivals("poisson", 0.3, 12, seed=1)
    times = [float(at) for at in schedule.times() if at >= 2]
    summary = summarise([sample(at, 0.5) for at in times], 10, 2)
    assert summary.offered_rate == len(times) / 10
    assert summarise([sample(61, 2.0)], 60, 60).offered_rate == pytest.approx(1 / 60)


def test_goodput_is_over_the_schedule_or_until_its_last_answer():
    samples = [sample(10 + k, 0.5) for k in range(10)]
    assert summarise(samples, 20, 10).goodput == 10 / 20
    samples.append(sample(29, 11.0))
    assert summarise(samples, 20, 10).goodput == pytest.approx(11 / 30)


def test_percentiles_are_those_of_the_values():
    values = list(np.linspace(0.001, 1.0, 1000))
    found = percentiles(values)
    assert found["p50"] == pytest.approx(0.5, rel=0.01)
    assert found["p99"] == pytest.approx(0.99, rel=0.01)
    assert found["p100"] == pytest.approx(1.0, rel=0.01)


async def test_the_search_finds_the_rate_at_which_the_objective_breaks():
    async def run(rate: float) -> Summary:
        latency = 0.1 if rate <= 7.3 else 3.0
        return summarise([sample(k, latency) for k in range(20)], 20)

    probes = await highest_rate(run, 1.0, 1.0, precision=0.05)
    best = max(probe.rate for probe in probes if probe.met)
    assert 6.5 <= best <= 7.3


def test_the_report_is_one_page_without_references_to_other_hosts():
    samples = [sample(k * 0.5, 0.1 + 0.01 * (k % 7)) for k in range(60)]
    samples.append(sample(10.2, 0.01, "UNAVAILABLE"))
    scenario = load_scenario("create-web")
    text = page(scenario, summarise(samples, 30), samples, describe())
    assert text.count("<svg") >= 4
    assert "src=" not in text
    assert "UNAVAILABLE" in text
    assert "<script" not in text


def test_memory_that_settles_is_no_growth_and_a_leak_is():
    settled = [MemoryReading(t, 300 if t > 60 else 200, 900) for t in range(0, 600, 5)]
    leaking = [MemoryReading(t, 300 + t / 10, 900) for t in range(0, 600, 5)]
    assert growth(settled, 100) == 0
    assert growth(leaking, 100) > 0.03


def readings(until_s: int, grows: float = 0.0) -> list[MemoryReading]:
    return [MemoryReading(at, 300 + grows * at, 900) for at in range(0, until_s, 5)]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ([], "memory was not measured:"),
        (readings(100, grows=9), "memory was not measured:"),
        (readings(1800), "memory was not measured after 1795 s"),
        (readings(3660, grows=0.1), "memory grew by"),
    ],
    ids=["no reading", "too few", "not until the end", "a leak"],
)
def test_a_soak_whose_memory_is_not_known_to_be_steady_fails(seen, said):
    soak = load_scenario("soak")
    summary = summarise([sample(61, 2.0)], soak.seconds, soak.warmup_s)
    assert verdict(soak, summary, readings(3660))[1] == []
    (failure,) = verdict(soak, summary, seen)[1]
    assert said in failure


def test_a_soak_of_a_service_whose_memory_is_not_seen_is_refused_before_it_begins():
    with pytest.raises(typer.BadParameter, match="memory"):
        main("soak", target="127.0.0.1:1")


def test_growth_needs_readings_after_the_warm_up():
    with pytest.raises(ValueError, match="too few"):
        growth([MemoryReading(1, 1, 1)], 0)


def test_work_that_takes_longer_than_its_amount_is_not_linear():
    assert Series("photos", (1, 2, 4), (1.0, 1.5, 2.9)).linear
    assert not Series("photos", (1, 2, 4), (1.0, 1.5, 3.5)).linear


def test_throughput_counts_the_parts_of_headshots_that_lie_in_the_run() -> None:
    # Two threads for ten seconds, four seconds a headshot: five in all, whoever ends last.
    spans = [(0.0, 4.0), (0.0, 4.0), (4.0, 8.0), (4.0, 8.0), (8.0, 12.0), (8.0, 12.0)]
    assert throughput(spans, 10.0) == pytest.approx(0.5)
