"""The embedded server's folder goes with its gateway, even one that was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from headshot.triton.run_folder import RunFolder

HOLDER = """
import sys
from pathlib import Path
from headshot.triton.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
(folder.path / "backends").mkdir()
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_a_folder_is_kept_while_its_process_lives_and_removed_after_it_was_killed(
    tmp_path: Path,
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    try:
        theirs = Path(holder.stdout.readline().strip())
        first = RunFolder(tmp_path)
        assert (theirs / "backends").is_dir()
    finally:
        holder.kill()
        holder.communicate(timeout=10)
    second = RunFolder(tmp_path)
    assert not theirs.exists()
    assert first.path.is_dir()
    for folder in (first, second):
        folder.remove()
        folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "headshot-embedded-file").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "headshot-embedded-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "kept").write_text("x")
    RunFolder(tmp_path).remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "elsewhere",
        "headshot-embedded-file",
        "headshot-embedded-link",
    ]
    assert (tmp_path / "elsewhere" / "kept").exists()
