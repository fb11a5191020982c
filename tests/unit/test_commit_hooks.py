"""What the commit hooks do to a file that is named to them, as pre-commit names each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
RUFF = [hook["entry"].split()[1:] for hook in HOOKS if "/ruff " in hook["entry"]]
GENERATED = Path("service/headshot/v1/style_pb2.py")
PROGRAM = Path(sys.executable).parent / "ruff"

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="ruff is not installed beside Python")


def run(folder: Path, arguments: list[str], file: Path) -> int:
    done = subprocess.run([PROGRAM, *arguments, file], cwd=folder, check=False, timeout=30)
    return done.returncode


@pytest.mark.parametrize("arguments", RUFF, ids=" ".join)
def test_a_hook_leaves_generated_code_as_it_is_and_still_mends_other_files(
    tmp_path: Path, arguments: list[str]
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    generated, other = tmp_path / GENERATED, tmp_path / "scripts" / "other.py"
    for path, text in (
        (generated, (ROOT / GENERATED).read_text()),
        (
            other,
            '"""A file with something to mend."""\n\nimport os\nimport sys\n\nprint( sys.path)\n',
        ),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    before = other.read_text()
    assert run(tmp_path, arguments, GENERATED) == 0
    assert generated.read_text() == (ROOT / GENERATED).read_text()
    run(tmp_path, arguments, other)
    assert other.read_text() != before


def test_both_of_ruffs_hooks_are_looked_at() -> None:
    assert [arguments[0] for arguments in RUFF] == ["check", "format"]
