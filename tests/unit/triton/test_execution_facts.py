"""Facts of each execution travel from backend to gateway, and split waiting from transport."""

from __future__ import annotations

from pathlib import Path

import pytest
from headshot.triton.facts import ExecutionFacts, FactsReader, FactsWriter, tagged_request_id
from headshot.triton.timings import PathClock


def test_a_reader_finds_what_a_writer_recorded(tmp_path: Path) -> None:
    request_id, key = tagged_request_id("caller's own id")
    assert request_id.startswith("caller's own id#")
    FactsWriter(tmp_path, "denoiser").record(request_id, 10, 20, 3)
    reader = FactsReader(tmp_path)
    assert reader.find("denoiser", key) == ExecutionFacts(10, 20, 3)
    assert reader.find("denoiser", key + 1) is None
    assert reader.find("matting", key) is None


def test_instances_of_a_model_share_its_table(tmp_path: Path) -> None:
    ids = [tagged_request_id("") for _ in range(2)]
    for (request_id, _), rows in zip(ids, (1, 2), strict=True):
        FactsWriter(tmp_path, "denoiser").record(request_id, 1, 2, rows)
    reader = FactsReader(tmp_path)
    found = [reader.find("denoiser", key) for _, key in ids]
    assert [facts.rows for facts in found if facts] == [1, 2]


@pytest.mark.parametrize("request_id", ["", "plain", "x#nothexadecimal!!!", "#12"])
def test_ids_of_other_clients_are_ignored(tmp_path: Path, request_id: str) -> None:
    FactsWriter(tmp_path, "denoiser").record(request_id, 1, 2, 1)
    table = (tmp_path / "denoiser.facts").read_bytes()
    assert not any(table)


def test_no_folder_means_no_facts(tmp_path: Path) -> None:
    assert FactsReader(tmp_path / "gone").find("denoiser", 1) is None


def test_time_beyond_the_fastest_way_is_queue_time() -> None:
    clock = PathClock()

    def split(started_ms: float) -> tuple[float, float, float]:
        facts = ExecutionFacts(round(started_ms * 1e6), round((started_ms + 10) * 1e6), 2)
        end = round((started_ms + 11) * 1e6)
        timings = clock.split("server", "denoiser", 1000, 0, end, facts)
        assert timings is not None
        assert timings.exact
        assert timings.batch_size == 2
        assert timings.queue_s + timings.compute_s + timings.wire_s == pytest.approx(
            timings.total_s
        )
        return timings.queue_s, timings.compute_s, timings.wire_s

    assert split(5) == pytest.approx((0, 0.010, 0.006))
    queue, compute, wire = split(25)
    assert queue == pytest.approx(0.020, abs=0.001)
    assert compute == pytest.approx(0.010)
    assert wire == pytest.approx(0.006, abs=0.001)


def test_a_long_row_of_waiting_requests_is_not_taken_for_transport() -> None:
    clock = PathClock()
    timings = None
    for number in range(1000):
        sent = number * 10_000_000
        wait = 5_000_000 if number == 0 else 400_000_000
        facts = ExecutionFacts(sent + wait, sent + wait + 10_000_000, 1)
        timings = clock.split("server", "denoiser", 1000, sent, sent + wait + 11_000_000, facts)
    assert timings is not None
    assert timings.queue_s == pytest.approx(0.395, abs=0.001)


def test_facts_of_another_clock_are_not_believed() -> None:
    later = ExecutionFacts(started_ns=500, ended_ns=900, rows=1)
    assert PathClock().split("server", "denoiser", 1, 0, 800, later) is None
    assert PathClock().split("server", "denoiser", 1, 600, 1000, later) is None
