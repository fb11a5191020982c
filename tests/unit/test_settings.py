"""Settings that do not fit together, and variables that were meant to be settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing
from headshot import cli
from headshot.api.gateway import free_shared_port
from headshot.api.start_checks import check_start
from headshot.config import Settings
from headshot.v1 import photo_pb2, rules_pb2
from pydantic import ValidationError
from typer.testing import CliRunner

from tests.unit.security.certificates import Authority


@pytest.mark.parametrize(
    "half", ["tls_certificate", "tls_key", "c2pa_certificate", "c2pa_key", "tls_client_ca"]
)
def test_half_of_a_pair_of_certificate_and_key_stops_the_start(half: str) -> None:
    with pytest.raises(ValidationError, match="certificate"):
        Settings(**{half: "file.pem"})  # type: ignore[arg-type]


def test_a_certificate_with_its_key_is_accepted() -> None:
    settings = Settings(tls_certificate="a.crt", tls_key="a.key", tls_client_ca="ca.crt")  # type: ignore[arg-type]
    assert settings.tls_key is not None


def test_photos_may_be_as_large_as_the_contract_allows_and_no_larger() -> None:
    data = photo_pb2.Photo.DESCRIPTOR.fields_by_name["data"]
    allowed = data.GetOptions().Extensions[rules_pb2.rules].max_len
    assert Settings(max_photo_bytes=allowed).max_photo_bytes == allowed
    with pytest.raises(ValidationError, match="max_photo_bytes"):
        Settings(max_photo_bytes=allowed + 1)


def test_a_misspelt_variable_is_told_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHOT_REQUIRE_CONSNT", "true")
    with pytest.raises(ValidationError, match="did you mean HEADSHOT_REQUIRE_CONSENT"):
        Settings()


def test_variables_of_others_that_share_the_prefix_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HEADSHOT_SERVICE_HOST", "HEADSHOT_CACHE", "HEADSHOT_TRITON_FACTS_DIR"):
        monkeypatch.setenv(name, "x")
    assert Settings().require_consent is False


@pytest.mark.parametrize("text", ["a:1,b:2", " a:1 , b:2,", '["a:1", "b:2"]'])
def test_a_list_is_given_as_text_with_commas_or_as_json(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(["--set", f"triton_url={text}"], monkeypatch).triton_url == ("a:1", "b:2")
    monkeypatch.setenv("HEADSHOT_TRITON_URL", text)
    assert started([], monkeypatch).triton_url == ("a:1", "b:2")


def test_an_address_in_brackets_is_no_json_and_nothing_is_an_empty_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert started(["--set", "triton_url=[::1]:8001"], monkeypatch).triton_url == ("[::1]:8001",)
    assert started(["--set", "triton_url="], monkeypatch).triton_url == ()


@pytest.mark.parametrize(
    ("given", "host"),
    [("::1", "[::1]"), ("[::1]", "[::1]"), ("::", "[::]"), ("127.0.0.1", "127.0.0.1")],
)
def test_an_ipv6_address_gets_the_brackets_that_it_needs_before_a_port(
    given: str, host: str
) -> None:
    settings = Settings(host=given, operations_host=given)  # type: ignore[call-arg]
    assert (settings.host, settings.operations_host) == (host, host)
    assert free_shared_port(settings.host) > 0


def test_a_file_of_settings_is_read_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "headshot.toml"
    path.write_text('require_consent = true\ntriton_url = ["a:1"]')
    monkeypatch.setenv("HEADSHOT_CONFIG", str(path))
    assert started([], monkeypatch).require_consent
    monkeypatch.delenv("HEADSHOT_CONFIG")
    settings = started(["--config", str(path), "--set", "workers=2"], monkeypatch)
    assert (settings.require_consent, settings.triton_url, settings.workers) == (True, ("a:1",), 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "No such file"), ("workers: 2", "not TOML"), ("wrkers = 2", "wrkers")],
    ids=["missing", "another format", "unknown key"],
)
def test_a_file_of_settings_that_is_missing_or_wrong_stops_the_start_in_plain_words(
    text: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "headshot.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("HEADSHOT_CONFIG", str(path))
    assert reason in refused([], monkeypatch)
    if text is None:
        monkeypatch.delenv("HEADSHOT_CONFIG")
        assert "does not exist" in refused(["--config", str(path)], monkeypatch)


def test_a_broken_list_stops_the_start_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHOT_TRITON_URL", '["a:1"')
    assert "triton_url" in refused([], monkeypatch)


def test_a_worker_that_starts_again_needs_no_file_of_settings() -> None:
    # It gets all settings from the supervisor; these are refused only after they were read.
    done = subprocess.run(
        [sys.executable, "-m", "headshot.api.worker"],
        input='{"host": "0.0.0.0"}\n',
        env={**os.environ, "HEADSHOT_CONFIG": "/nowhere/headshot.toml"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "InsecureListenError" in done.stderr


def started(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings that `headshot serve` would serve with."""
    result, settings = serve(arguments, monkeypatch)
    assert result.exit_code == 0, result.output
    (one,) = settings
    return one


def refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what `headshot serve` says as it refuses to start, its lines joined."""
    result, settings = serve(arguments, monkeypatch)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert settings == []
    return " ".join(result.stderr.replace("│", " ").split())


def serve(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[typer.testing.Result, list[Settings]]:
    """Run `headshot serve` up to where it would begin to serve."""
    settings: list[Settings] = []

    async def begin(given: Settings) -> None:
        settings.append(given)

    async def begin_alone(_stop: object, given: Settings, _started: object) -> None:
        settings.append(given)

    monkeypatch.setattr(cli, "serve_with_workers", begin)
    monkeypatch.setattr(cli, "serve_until", begin_alone)
    monkeypatch.setattr(Settings, "model_config", dict(Settings.model_config))
    return CliRunner().invoke(cli.app, ["serve", *arguments]), settings


@pytest.mark.parametrize(
    "name",
    [name for name, field in Settings.model_fields.items() if field.annotation == Path | None],
)
def test_a_file_that_is_given_as_nothing_is_not_given(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"HEADSHOT_{name.upper()}", "")
    assert getattr(Settings(), name) is None
    assert getattr(started(["--set", f"{name}="], monkeypatch), name) is None


@pytest.mark.parametrize(
    "setting", ["credentials", "template_keys", "audit_log", "tls_certificate", "tls_client_ca"]
)
def test_a_wrong_file_stops_the_start_by_the_settings_name_before_triton_is_looked_for(
    setting: str, tmp_path: Path
) -> None:
    given = {setting: tmp_path}
    if setting == "tls_certificate":
        given["tls_key"] = tmp_path
    if setting == "tls_client_ca":
        certificate, key = Authority().issue("here").write(tmp_path, "here")
        given |= {"tls_certificate": certificate, "tls_key": key}
    settings = Settings(operations_port=0, **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=setting):
        check_start(settings)
