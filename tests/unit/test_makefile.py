"""The Makefile in a folder with a space in its name, and with file names that hold some."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands for every program that a recipe starts: its name, then its arguments, one a line.
TOLD = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0")" "$@"\n'

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a set-up checkout whose programs only tell how they were called."""
    folder = tmp_path / "check out"
    for name in (
        "requirements/dev.txt",
        "requirements/train.txt",
        "requirements/torch.txt",
        "requirements/audit.txt",
        "pyproject.toml",
        "service/headshot/triton/server-requirements.txt",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shutil.copy(ROOT / "Makefile", folder)
    for name in (
        ".venv/bin/headshot",
        ".venv/bin/python",
        ".venv-train/bin/python",
        ".venv-audit/bin/pip-audit",
    ):
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(TOLD)
        program.chmod(0o755)
    (folder / ".cache" / "triton").mkdir(parents=True)
    for name in (".venv", ".venv-train", ".venv-audit"):
        (folder / name / ".installed").touch()
    return folder


def make(checkout: Path, *arguments: str) -> list[str]:
    """Run make with a bare environment; return what it printed, by line."""
    done = subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_setup_installs_the_server_once_into_a_cache_below_a_folder_with_a_space(
    checkout: Path,
) -> None:
    assert "scripts/install_triton.py" in make(checkout, "setup")
    assert (checkout / ".cache" / "triton" / ".installed").is_file()
    assert "scripts/install_triton.py" not in make(checkout, "setup")


def test_a_photo_and_a_folder_with_spaces_are_one_argument_each(checkout: Path) -> None:
    make(checkout, "setup")
    told = make(checkout, "headshot", "PHOTO=my 'best' photo.jpg", "OUT=my out")
    assert told == [
        *("headshot", "create", "my 'best' photo.jpg", "--out", "my out", "--candidates", "3"),
        "look at my out/contact-sheet.jpg",
    ]


def test_without_a_photo_the_example_is_asked_for(checkout: Path) -> None:
    make(checkout, "setup")
    # The program that should print the example's path prints its own call here.
    assert make(checkout, "headshot")[:4] == [
        "headshot",
        "create",
        "python",
        "scripts/example_photo.py",
    ]


@pytest.mark.parametrize(
    ("target", "given", "expected"),
    [
        ("gallery", {"PHOTOS": "the team"}, ["--photos", "the team"]),
        (
            "evaluate",
            {"DATA": "data sets", "TEACHERS": "old teachers"},
            ["--data", "data sets", "--teachers", "old teachers"],
        ),
    ],
)
def test_folders_with_spaces_reach_scripts_whole(
    checkout: Path, target: str, given: dict[str, str], expected: list[str]
) -> None:
    make(checkout, "setup")
    told = make(checkout, target, *(f"{name}={value}" for name, value in given.items()))
    assert told[-len(expected) :] == expected


def test_the_audit_looks_at_every_pinned_file(checkout: Path) -> None:
    told = make(checkout, "audit")
    audited = {line for before, line in pairwise(told) if before == "-r"}
    assert audited == {
        "requirements/audit.txt",
        "requirements/dev.txt",
        "requirements/train.txt",
        "service/headshot/triton/server-requirements.txt",
    }


def test_continuous_integration_guards_what_happens_to_photos(checkout: Path) -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    targets = [line.removeprefix("make ") for line in lines if line.startswith("make ")]
    assert "test-privacy" in targets
    make(checkout, "-n", *targets)  # all of them are there
    make(checkout, "setup")
    told = make(checkout, "test-privacy")
    # Those tests are slow ones, which pytest leaves out unless it is told otherwise.
    assert told[told.index("pytest") + 1 :] == [
        *("-m", "not chaos", "tests/integration/operations/test_privacy.py")
    ]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name
)
def test_every_pin_but_one_has_a_hash(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    bare = [line for line in text.splitlines() if "==" in line and "--hash=" not in line]
    bare = [line for line in bare if not line.lstrip().startswith("#")]
    assert bare == ([] if file.name != "torch.txt" else ["torch==2.13.0"])
