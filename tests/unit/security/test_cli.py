from __future__ import annotations

from pathlib import Path

import yaml
from headshot.security.cli import keys_app
from headshot.security.credentials import CredentialStore
from headshot.security.keyring import KeyRing
from typer.testing import CliRunner

runner = CliRunner()


def test_a_made_api_key_opens_the_service_and_shows_only_once(tmp_path: Path) -> None:
    made = runner.invoke(keys_app, ["api", "web-1", "website"])
    key = made.stderr.split()[-1]
    path = tmp_path / "credentials.yaml"
    path.write_text(yaml.safe_dump({"credentials": yaml.safe_load(made.stdout)}))
    assert key not in made.stdout
    assert CredentialStore(path).authenticate([("x-api-key", key)]).tenant == "website"
    checked = runner.invoke(keys_app, ["check", str(path)])
    assert "web-1: tenant website" in checked.stdout
    assert yaml.safe_load(made.stdout)[0]["sha256"] not in checked.stdout


def test_a_made_template_key_makes_a_key_ring(tmp_path: Path) -> None:
    made = runner.invoke(keys_app, ["template", "2026-11"])
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": yaml.safe_load(made.stdout)}))
    assert KeyRing.load(path).active[0] == "2026-11"
