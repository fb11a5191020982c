from __future__ import annotations

import fcntl
import json
import multiprocessing
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from headshot.security.cli import keys_app
from headshot.telemetry.audit import GENESIS, AuditLog, AuditRecord, Fsync, verify
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

RECORD = AuditRecord("r1", "website", "website-2026", "s/M", "OK", consent_reference="C-17")
KEY = bytes(range(32))


def written(path: Path, count: int, key: bytes | None = None) -> list[bytes]:
    log = AuditLog(path, fsync=Fsync.NEVER, key=key)
    for _ in range(count):
        log.append(RECORD)
    log.close()
    return path.read_bytes().splitlines(keepends=True)


def test_an_untouched_log_verifies(tmp_path: Path) -> None:
    lines = written(tmp_path / "audit", 20)
    verdict = verify(lines)
    assert verdict.ok
    assert verdict.records == 20
    assert verdict.head == json.loads(lines[-1])["hash"]


@pytest.mark.parametrize("key", [None, KEY])
def test_a_changed_record_shows(tmp_path: Path, key: bytes | None) -> None:
    lines = written(tmp_path / "audit", 9, key)
    lines[4] = lines[4].replace(b"C-17", b"C-18")
    verdict = verify(lines, key)
    assert not verdict.ok
    assert verdict.bad_line == 5


def test_a_removed_or_moved_record_shows(tmp_path: Path) -> None:
    lines = written(tmp_path / "audit", 9)
    assert verify(lines[:3] + lines[4:]).bad_line == 4
    assert not verify([lines[1], lines[0], *lines[2:]]).ok
    assert not verify(lines[1:], start=GENESIS).ok


def test_somebody_without_the_key_cannot_forge_a_chain(tmp_path: Path) -> None:
    forged = written(tmp_path / "audit", 3, key=None)
    assert not verify(forged, KEY).ok


def test_a_second_process_continues_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    written(path, 3)
    lines = written(path, 3)
    assert verify(lines).records == 6
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5, 6]


def append_some(path: Path) -> None:
    log = AuditLog(path, fsync=Fsync.NEVER)
    for _ in range(50):
        log.append(RECORD)
    log.close()


def test_workers_that_write_at_the_same_time_keep_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=append_some, args=(path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with path.open("rb") as lines:
        verdict = verify(lines)
    assert verdict.ok
    assert verdict.records == 150


def test_a_line_cut_by_a_crash_does_not_swallow_the_next_record(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    lines = written(path, 2)
    path.write_bytes(b"".join(lines) + b'{"seq":3,"ti')
    log = AuditLog(path, fsync=Fsync.NEVER)
    log.append(RECORD)
    log.close()
    after = path.read_bytes().splitlines()
    assert json.loads(after[-1])["seq"] == 3
    assert json.loads(after[-1])["prev"] == json.loads(lines[1])["hash"]


def test_rotation_starts_a_new_file_in_the_same_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(path, fsync=Fsync.ALWAYS)
    _, head = log.append(RECORD)
    path.rename(tmp_path / "audit.1")
    log.append(RECORD)
    log.close()
    verdict = verify(path.read_bytes().splitlines(), start=head)
    assert verdict.ok
    assert verdict.records == 1


@pytest.mark.parametrize(
    ("fsync", "expected"),
    [(Fsync.ALWAYS, [1, 2, 3, 4]), (Fsync.INTERVAL, [0, 1, 1, 2]), (Fsync.NEVER, [0, 0, 0, 0])],
)
def test_records_reach_the_disk_as_often_as_was_asked(
    fsync: Fsync, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, synced = [100.0], list[int]()
    log = AuditLog(tmp_path / "audit", fsync=fsync, interval_s=2, clock=lambda: now[0])
    monkeypatch.setattr("headshot.telemetry.audit.os.fsync", synced.append)
    counts = []
    for _ in range(4):
        now[0] += 1
        log.append(RECORD)
        counts.append(len(synced))
    log.close()
    assert counts == expected


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    written(tmp_path / "audit", 1)
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o600


def test_two_workers_go_on_with_one_chain_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    one, two = (AuditLog(path, fsync=Fsync.NEVER) for _ in range(2))
    one.append(RECORD)
    two.append(RECORD)
    path.rename(tmp_path / "audit.1")
    assert [one.append(RECORD)[0], two.append(RECORD)[0], one.append(RECORD)[0]] == [3, 4, 5]
    one.close()
    two.close()
    before = verify((tmp_path / "audit.1").read_bytes().splitlines())
    after = verify(path.read_bytes().splitlines(), start=before.head)
    assert (before.ok, before.records, after.ok, after.records) == (True, 2, True, 3)
    assert (after.first, after.follows) == (3, before.head)


def test_a_record_that_waited_while_the_log_was_rotated_goes_into_the_new_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit"
    log = AuditLog(path, fsync=Fsync.NEVER)
    log.append(RECORD)
    with path.open("rb") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        written = pool.submit(log.append, RECORD)
        with pytest.raises(TimeoutError):
            written.result(timeout=0.2)
        path.rename(tmp_path / "audit.1")
        fcntl.flock(other, fcntl.LOCK_UN)
        assert written.result(timeout=10)[0] == 2
    log.close()
    assert len((tmp_path / "audit.1").read_bytes().splitlines()) == 1
    assert len(path.read_bytes().splitlines()) == 1


def test_a_disk_that_fills_within_a_record_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(path, fsync=Fsync.NEVER)
    log.append(RECORD)
    whole = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ: the write is cut short, and the next one fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 40, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            log.append(RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole
    assert log.append(RECORD)[0] == 2
    log.close()
    verdict = verify(path.read_bytes().splitlines())
    assert (verdict.ok, verdict.records) == (True, 2)


def test_blobs_and_line_breaks_do_not_get_into_a_record(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(path, fsync=Fsync.NEVER)
    log.append(AuditRecord("r", "t", "c", "s/M", "OK", 'C\n{"seq":9}', style="A" * 100))
    log.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1
    assert b"AAAA" not in lines[0]
    assert verify(lines).ok


@pytest.mark.parametrize("reference", ["A1b2C3d4" * 16, "Bearer 12345", "/consents/17/a b.pdf", ""])
def test_a_consent_reference_is_kept_as_it_was_given(reference: str, tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(path, fsync=Fsync.NEVER)
    log.append(AuditRecord("r", "t", "c", "s/M", "OK", consent_reference=reference))
    log.close()
    assert json.loads(path.read_bytes())["consent_reference"] == reference


@pytest.mark.parametrize(
    "change", [{"seq": "1"}, {"seq": None}, {"hash": "\ud800"}, {"hash": 5}, {"prev": []}], ids=str
)
def test_a_record_of_odd_values_is_named_like_any_that_was_changed(
    change: dict[str, object], tmp_path: Path
) -> None:
    lines = written(tmp_path / "audit", 3)
    lines[1] = json.dumps(json.loads(lines[1]) | change).encode()
    verdict = verify(lines)
    assert (verdict.ok, verdict.bad_line) == (False, 2)


def checked(path: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """Return exit code and verdict of `headshot keys audit`."""
    result = CliRunner().invoke(keys_app, ["audit", str(path), *arguments])
    return result.exit_code, json.loads(result.stdout)


def test_the_command_line_tells_a_good_log_from_a_bad_one(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    lines = written(path, 3)
    assert checked(path)[0] == 0
    path.write_bytes(lines[0] + lines[2])
    code, verdict = checked(path)
    assert (code, verdict["bad_line"]) == (1, 2)


def test_the_command_line_accepts_a_log_without_its_beginning_only_after_what_came_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit"
    lines = written(path, 3)
    head = str(json.loads(lines[0])["hash"])
    path.write_bytes(b"".join(lines[1:]))
    code, verdict = checked(path)
    assert (code, verdict["bad_line"], verdict["first"], verdict["follows"]) == (1, 1, 2, head)
    assert checked(path, "--after", head)[0] == 0
    path.write_bytes(lines[2])
    assert checked(path, "--after", head)[0] == 1


def test_records_are_counted_also_those_that_cannot_be_written(tmp_path: Path) -> None:
    metrics = Metrics(CollectorRegistry())
    log = AuditLog(tmp_path / "audit", fsync=Fsync.NEVER, metrics=metrics)
    log.append(RECORD)
    log.close()
    with pytest.raises(OSError, match="closed"):
        log.append(RECORD)
    name = "headshot_audit_records_total"
    assert metrics.registry.get_sample_value(name, {"outcome": "written"}) == 1
    assert metrics.registry.get_sample_value(name, {"outcome": "failed"}) == 1


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        AuditLog(tmp_path / "audit", key=b"short")


def test_a_rotation_that_fails_leaves_no_stale_descriptor(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AuditLog(folder / "audit", fsync=Fsync.NEVER)
    log.append(RECORD)
    folder.rename(tmp_path / "moved")
    with pytest.raises(OSError, match="No such file"):
        log.append(RECORD)
    # Another file may not be taken for the log: its descriptor is its own.
    with (tmp_path / "other").open("wb") as other:
        with pytest.raises(OSError, match="No such file"):
            log.append(RECORD)
        other.write(b"still open")
    folder.mkdir()
    log.append(RECORD)
    log.close()
    assert len((folder / "audit").read_bytes().splitlines()) == 1
