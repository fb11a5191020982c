from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from headshot.errors import UnauthenticatedError
from headshot.security.credentials import (
    Credential,
    CredentialStore,
    load_credentials,
    new_api_key,
)
from headshot.telemetry.context import Priority
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry
from pydantic import ValidationError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, *entries: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump({"credentials": list(entries)}))
    # Two writes within one tick of a coarse file clock still differ by size or inode here.
    os.utime(path)


def bearer(key: str) -> list[tuple[str, str | bytes]]:
    return [("authorization", f"Bearer {key}")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials.yaml"


def test_a_known_key_gives_its_tenant_and_an_unknown_one_nothing(path: Path) -> None:
    key, entry = new_api_key("web-1", "website")
    write(path, entry)
    store = CredentialStore(path)
    assert store.authenticate(bearer(key)).tenant == "website"
    assert store.authenticate([("x-api-key", key)]).id == "web-1"
    for wrong in (key[:-1], key + "x", key.lower(), "0" * 64, entry["sha256"]):
        with pytest.raises(UnauthenticatedError) as refused:
            store.authenticate(bearer(wrong))
        assert refused.value.reason == "CREDENTIALS_UNKNOWN"
        assert wrong not in str(refused.value)


@pytest.mark.parametrize(
    "metadata", [[], [("authorization", "Basic abc")], [("authorization", "Bearer ")]]
)
def test_a_call_without_a_key_is_told_how_to_send_one(
    path: Path, metadata: list[tuple[str, str | bytes]]
) -> None:
    write(path, new_api_key("web-1", "website")[1])
    with pytest.raises(UnauthenticatedError) as refused:
        CredentialStore(path).authenticate(metadata)
    assert refused.value.reason == "CREDENTIALS_MISSING"


def test_every_entry_is_compared_in_constant_time_also_after_a_match(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [new_api_key(f"id-{number}", "website") for number in range(5)]
    write(path, *(entry for _, entry in made))
    store = CredentialStore(path)
    compared = []
    compare_digest = __import__("hmac").compare_digest

    def watched(first: str, second: str) -> bool:
        compared.append(second)
        return bool(compare_digest(first, second))

    monkeypatch.setattr("headshot.security.credentials.hmac.compare_digest", watched)
    store.authenticate(bearer(made[0][0]))
    assert len(compared) == 5


def test_a_new_key_works_without_a_restart_and_a_removed_one_stops(path: Path) -> None:
    clock = Clock()
    old, old_entry = new_api_key("old", "website")
    new, new_entry = new_api_key("new", "archive")
    write(path, old_entry)
    metrics = Metrics(CollectorRegistry())
    store = CredentialStore(path, interval_s=2, clock=clock, metrics=metrics)
    write(path, new_entry)
    assert store.authenticate(bearer(old)).tenant == "website"  # Not looked yet.
    clock.now += 2
    assert store.authenticate(bearer(new)).tenant == "archive"
    with pytest.raises(UnauthenticatedError):
        store.authenticate(bearer(old))
    assert metrics.tenant_label("archive") == "archive"


@pytest.mark.parametrize("broken", ["", "credentials: [", "credentials: []", "- 1", "a: b"])
def test_a_broken_new_file_leaves_the_old_keys_in_force(path: Path, broken: str) -> None:
    clock = Clock()
    key, entry = new_api_key("web-1", "website")
    write(path, entry)
    metrics = Metrics(CollectorRegistry())
    store = CredentialStore(path, clock=clock, metrics=metrics)
    path.write_text(broken)
    clock.now += 10
    assert store.authenticate(bearer(key)).tenant == "website"

    def failed() -> float | None:
        labels = {"file": "credentials", "outcome": "failed"}
        return metrics.registry.get_sample_value("headshot_config_reloads_total", labels)

    assert failed() == 1
    clock.now += 10
    assert store.authenticate(bearer(key)).tenant == "website"
    assert failed() == 1  # the same bad version is read and reported once
    assert stale(metrics) == 1  # as long as the bad file is there, though it is not read again
    write(path, new_api_key("web-2", "website")[1])
    clock.now += 10
    with pytest.raises(UnauthenticatedError):
        store.authenticate(bearer(key))
    assert stale(metrics) == 0


def stale(metrics: Metrics) -> float | None:
    """Return whether the credentials in force are older than their file."""
    return metrics.registry.get_sample_value("headshot_config_stale", {"file": "credentials"})


def test_a_vanished_file_leaves_the_old_keys_in_force(path: Path) -> None:
    clock = Clock()
    key, entry = new_api_key("web-1", "website")
    write(path, entry)
    store = CredentialStore(path, clock=clock)
    path.unlink()
    clock.now += 10
    assert store.authenticate(bearer(key)).tenant == "website"


def test_the_files_stamp_is_not_looked_at_on_every_call(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    key, entry = new_api_key("web-1", "website")
    write(path, entry)
    store = CredentialStore(path, interval_s=2, clock=clock)
    looks = 0
    stat = Path.stat

    def counted(self: Path, **options: Any) -> os.stat_result:
        nonlocal looks
        looks += self == path
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(100):
        clock.now += 0.1
        store.authenticate(bearer(key))
    assert 4 <= looks <= 6


def test_an_expired_key_is_refused(path: Path) -> None:
    key, entry = new_api_key("web-1", "website")
    write(path, {**entry, "not_after": "2026-01-01T00:00:00Z"})
    before = CredentialStore(path, now=lambda: 1767225599.0)
    assert before.authenticate(bearer(key)).tenant == "website"
    with pytest.raises(UnauthenticatedError) as refused:
        CredentialStore(path, now=lambda: 1767225600.0).authenticate(bearer(key))
    assert refused.value.reason == "CREDENTIALS_EXPIRED"


@pytest.mark.parametrize(
    "written", ["2026-01-01T00:00:00", "2026-01-01 00:00:00", "2026-01-01", '"2026-01-01T00:00:00"']
)
def test_an_end_without_a_zone_is_meant_in_utc_wherever_the_service_runs(
    path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, entry = new_api_key("web-1", "website")
    write(path, entry)
    path.write_text(f"{path.read_text()}  not_after: {written}\n")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        before = CredentialStore(path, now=lambda: 1767225599.0)
        assert before.authenticate(bearer(key)).tenant == "website"
        with pytest.raises(UnauthenticatedError) as refused:
            CredentialStore(path, now=lambda: 1767225600.0).authenticate(bearer(key))
        assert refused.value.reason == "CREDENTIALS_EXPIRED"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_wrong_key_is_refused_also_with_a_known_certificate(path: Path) -> None:
    write(path, {"id": "archive", "tenant": "archive", "certificate": "archive.internal"})
    with pytest.raises(UnauthenticatedError) as refused:
        CredentialStore(path).authenticate(bearer("hsk_wrong"), ["archive.internal"])
    assert refused.value.reason == "CREDENTIALS_UNKNOWN"


def test_a_key_longer_than_any_that_is_given_out_is_not_even_compared(path: Path) -> None:
    key = "k" * 600
    write(path, {"id": "x", "tenant": "x", "sha256": hashlib.sha256(key.encode()).hexdigest()})
    for metadata in ([("x-api-key", key)], bearer(key)):
        with pytest.raises(UnauthenticatedError) as refused:
            CredentialStore(path).authenticate(metadata)
        assert refused.value.reason == "CREDENTIALS_MISSING"


def test_a_verified_client_certificate_is_a_credential_too(path: Path) -> None:
    write(path, {"id": "archive", "tenant": "archive", "certificate": "archive.internal"})
    store = CredentialStore(path)
    assert store.authenticate([], ["other", "archive.internal"]).tenant == "archive"
    with pytest.raises(UnauthenticatedError):
        store.authenticate([], ["stranger.internal"])
    with pytest.raises(UnauthenticatedError):
        store.authenticate(bearer("0" * 64))


def test_quota_and_priority_come_from_the_file(path: Path) -> None:
    key, entry = new_api_key("web-1", "website")
    write(path, {**entry, "priority": "batch", "quota": {"concurrency": 3, "weight": 2}})
    store = CredentialStore(path)
    assert store.authenticate(bearer(key)).highest_priority is Priority.BATCH
    assert store.quota("website").concurrency == 3
    assert store.quota("website").rate_per_s == 0
    assert store.quota("nobody").weight == 1


def test_plain_hashes_without_salt_are_accepted(path: Path) -> None:
    # printf test | sha256sum
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    write(path, {"id": "x", "tenant": "x", "sha256": digest})
    assert CredentialStore(path).authenticate(bearer("test")).tenant == "x"


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "not-hex"},
        {"tenant": "Has Spaces"},
        {"quota": {"concurrency": -1}},
        {"surprise": 1},
        {"sha256": ""},
        {"certificate": "both.internal"},
        {"priority": "urgent"},
    ],
)
def test_a_bad_entry_is_refused_without_quoting_it(path: Path, change: dict[str, Any]) -> None:
    _, entry = new_api_key("web-1", "website")
    write(path, {**entry, **change})
    with pytest.raises(ValidationError) as refused:
        load_credentials(path)
    assert "input_value" not in str(refused.value)
    assert entry["sha256"] not in str(refused.value)


def test_ids_must_be_unique_and_quotas_of_a_tenant_agree(path: Path) -> None:
    entry = new_api_key("web-1", "website")[1]
    write(path, entry, entry)
    with pytest.raises(ValidationError, match="unique"):
        load_credentials(path)
    other = {**new_api_key("web-2", "website")[1], "quota": {"weight": 9}}
    write(path, entry, other)
    with pytest.raises(ValidationError, match="quota"):
        load_credentials(path)


def test_a_credential_never_prints_its_hash() -> None:
    entry = new_api_key("web-1", "website")[1]
    assert entry["sha256"] not in repr(Credential.model_validate(entry))
    assert entry["salt"] not in repr(Credential.model_validate(entry))


def test_keys_are_long_and_never_the_same() -> None:
    keys = {new_api_key("a", "a")[0] for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) >= 43 for key in keys)
