"""Read files out of fetched (bare or not) git snapshots without a work tree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path


def git_directory(mirror: Path, name: str) -> Path:
    """Return the git directory of snapshot `name` ("owner/repository") under `mirror`.

    Raises FileNotFoundError when the snapshot has not been fetched.
    """
    root = mirror / name.replace("/", "+") / "repo"
    for candidate in (root / ".git", root):
        if (candidate / "HEAD").is_file():
            return candidate
    raise FileNotFoundError(f"no snapshot of {name} under {mirror}")


def snapshot_root(data: Path) -> Path:
    """Return the folder of fetched snapshots: `data` itself or its subfolder (or link) `snapshots`.

    Raises FileNotFoundError when neither holds a snapshot ("owner+repository/repo").
    """
    for candidate in (data / "snapshots", data):
        if any(candidate.glob("*+*/repo")):
            return candidate
    raise FileNotFoundError(f"no fetched repositories in {data} or {data / 'snapshots'}")


def list_blobs(git_dir: Path, pattern: str, *, history: bool = False) -> dict[str, str]:
    """Map path -> blob id for every path that matches the regular expression `pattern`.

    With `history`, files of earlier commits count too (the newest version of each path).
    """
    matches = re.compile(pattern)
    found: dict[str, str] = {}
    if history:
        command = ["log", "--all", "--raw", "--no-abbrev", "--no-renames", "--format="]
        for line in _git(git_dir, *command).splitlines():
            meta, _, path = line.partition("\t")
            blob = meta.split()[3] if meta else ""
            if path and set(blob) != {"0"} and matches.search(path):
                found.setdefault(path, blob)
    else:
        for line in _git(git_dir, "ls-tree", "-r", "HEAD").splitlines():
            meta, _, path = line.partition("\t")
            if matches.search(path):
                found[path] = meta.split()[2]
    return dict(sorted(found.items()))


def read_blobs(git_dir: Path, blobs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, bytes) for (path, blob id) pairs; blobs the snapshot lacks are left out."""
    process = subprocess.Popen(
        ["git", "--git-dir", str(git_dir), "cat-file", "--batch"],  # noqa: S607
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("git cat-file has no pipes")
    try:
        for path, blob in blobs:
            stdin.write(f"{blob}\n".encode())
            stdin.flush()
            header = stdout.readline().split()
            if len(header) != 3:
                continue
            data = stdout.read(int(header[2]))
            stdout.read(1)
            yield path, data
    finally:
        stdin.close()
        process.terminate()
        process.wait()


def _git(git_dir: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--git-dir", str(git_dir), *arguments],  # noqa: S607
        capture_output=True,
        check=True,
    )
    return done.stdout.decode("utf-8", "replace")
