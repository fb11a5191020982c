"""Dockerfiles: a small parser and the rules that matter here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_KNOWN = {
    "ARG", "FROM", "LABEL", "RUN", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT",
    "CMD", "WORKDIR", "STOPSIGNAL",
}  # fmt: skip
_MAY_COME_FIRST = {"ARG", "FROM"}


@dataclass(frozen=True)
class Instruction:
    """One instruction with its continued lines joined."""

    line: int
    word: str
    value: str


Say = Callable[[Instruction, str], None]


def parse(text: str) -> list[Instruction]:
    """Split a Dockerfile into instructions; comments and blank lines are left out."""
    result: list[Instruction] = []
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        start = start or number
        pending += line.removesuffix("\\").strip() + " "
        if not line.endswith("\\"):
            word, _, value = pending.strip().partition(" ")
            result.append(Instruction(start, word.upper(), value.strip()))
            pending, start = "", 0
    if pending:
        raise ValueError(f"line {start}: the file ends in a continued line")
    return result


def problems(path: Path, root: Path) -> list[str]:
    """Return what is wrong with a Dockerfile.

    Args:
        path: the file.
        root: the build context, whose files COPY must find.
    """
    try:
        instructions = parse(path.read_text("utf-8"))
    except ValueError as error:
        return [f"{path.name}: {error}"]
    found: list[str] = []

    def say(item: Instruction, text: str) -> None:
        found.append(f"{path.name}:{item.line}: {text}")

    arguments: dict[str, str] = {}
    stages: set[str] = set()
    user = ""
    for index, item in enumerate(instructions):
        if item.word not in _KNOWN:
            say(item, f"{item.word} is not used here (COPY instead of ADD, exec form of the rest)")
        if index == 0 and item.word not in _MAY_COME_FIRST:
            say(item, "a Dockerfile begins with ARG or FROM")
        if item.word == "ARG":
            name, _, value = item.value.partition("=")
            arguments[name] = value
        elif item.word == "FROM":
            user = ""
            _check_from(item, arguments, stages, say)
        elif item.word == "COPY":
            _check_copy(item, root, stages, say)
        elif item.word == "USER":
            user = item.value
        elif item.word == "RUN":
            _check_run(item, say)
        elif item.word in {"ENTRYPOINT", "CMD"}:
            _check_exec_form(item, say)
    if user in {"", "root", "0", "0:0"}:
        found.append(f"{path.name}: the last stage runs as root")
    if not any(item.word == "ENTRYPOINT" for item in instructions):
        found.append(f"{path.name}: no ENTRYPOINT")
    return found


def _check_from(item: Instruction, arguments: dict[str, str], stages: set[str], say: Say) -> None:
    words = item.value.split()
    image = re.sub(r"\$\{(\w+)\}", lambda match: arguments.get(match[1], ""), words[0])
    if image not in stages and (":" not in image.split("/")[-1] or image.endswith(":latest")):
        say(item, f"{image or words[0]} is not pinned to a version")
    if len(words) == 3 and words[1].upper() == "AS":
        stages.add(words[2])


def _check_copy(item: Instruction, root: Path, stages: set[str], say: Say) -> None:
    words = item.value.split()
    if words[0].startswith("--from="):
        if words[0].removeprefix("--from=") not in stages:
            say(item, f"no stage {words[0]}")
        return
    for source in words[:-1]:
        if not source.startswith("--") and not (root / source).exists():
            say(item, f"{source} is not in the build context")


def _check_run(item: Instruction, say: Say) -> None:
    if "apt-get install" in item.value and not (
        "--no-install-recommends" in item.value and "rm -rf /var/lib/apt/lists" in item.value
    ):
        say(item, "apt-get install without --no-install-recommends or without cleaning up")
    for command in item.value.split("&&"):
        # Only the package itself, which lies here, has no hash to compare.
        if "pip install" in command and not (
            "--require-hashes" in command or command.rstrip().endswith(" .")
        ):
            say(item, "pip install of packages without --require-hashes")


def _check_exec_form(item: Instruction, say: Say) -> None:
    try:
        words = json.loads(item.value)
    except ValueError:
        words = None
    if not isinstance(words, list):
        say(item, f"{item.word} is not in exec form: signals would not arrive")
