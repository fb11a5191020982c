"""States of the server's processes, read from /proc."""

from __future__ import annotations

from pathlib import Path

_GONE = "X"
_BROKEN = frozenset("XZT")  # gone, zombie, stopped


def group_members(group: int) -> frozenset[int]:
    """Return the process ids of a process group, its leader left out."""
    members = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            pid = int(entry.name)
            fields = _stat(pid)
            if fields and int(fields[2]) == group and pid != group:
                members.add(pid)
    return frozenset(members)


def broken(pids: frozenset[int]) -> frozenset[int]:
    """Return those of the processes that are dead or stopped."""
    return frozenset(pid for pid in pids if (_stat(pid) or (_GONE,))[0] in _BROKEN)


def _stat(pid: int) -> tuple[str, ...] | None:
    """Return the fields after the command's name: state, parent, group, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may hold any character.
    return tuple(text.rpartition(")")[2].split())
