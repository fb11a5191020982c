"""What `headshot keys` prints makes the files that the service reads, as the docs say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from headshot.security.cli import keys_app
from headshot.security.credentials import CredentialStore
from headshot.security.keyring import KeyRing
from typer.testing import CliRunner

runner = CliRunner()
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


def follow(folder: Path, starts: str) -> subprocess.CompletedProcess[str]:
    """Run the page's block of commands that begins with `starts`, as it stands there."""
    text = OPERATIONS.read_text("utf-8")
    found = re.search(
        rf"^ *```sh\n( *{re.escape(starts)}.*?)^ *```$", text, re.DOTALL | re.MULTILINE
    )
    assert found
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-e", "-c", found[1]],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_documented_commands_make_a_credentials_file_that_opens_the_service(
    tmp_path: Path,
) -> None:
    done = follow(tmp_path, 'echo "credentials:"')
    key = done.stderr.split()[-1]
    store = CredentialStore(tmp_path / "credentials.yaml")
    assert store.authenticate([("x-api-key", key)]).tenant == "website"
    assert "website-2026: tenant website" in done.stdout


def test_the_documented_commands_make_a_key_ring_that_only_its_owner_reads(tmp_path: Path) -> None:
    follow(tmp_path, '(umask 077; echo "keys:"')
    assert KeyRing.load(tmp_path / "keys.yaml").active[0] == "2026-11"
    assert (tmp_path / "keys.yaml").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- {id: web-1, tenant: website, sha256: SECRET}", "put a line `credentials:` above it"),
        ("credentials:\n- {id: web-1, tenant: website, sha256: SECRET}", "credentials.0.sha256: "),
        ("credentials:\n- {id: web-1, tenant: website}", "needs either sha256 or certificate"),
        ("credentials: [SECRET", "is not well-formed YAML, line 1"),
        ("", "credentials.yaml: "),
    ],
    ids=["bare list", "no hash", "no proof", "no YAML", "empty"],
)
def test_a_bad_credentials_file_is_told_in_one_line_without_its_values(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "credentials.yaml"
    path.write_text(text)
    checked = runner.invoke(keys_app, ["check", str(path)])
    assert checked.exit_code == 1
    assert isinstance(checked.exception, SystemExit)
    assert checked.stdout == ""
    assert len(checked.stderr.splitlines()) == 1
    assert reason in checked.stderr
    assert "SECRET" not in checked.stderr


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
