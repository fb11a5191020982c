"""Every statement of docs/production.md says whether it was carried out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "production.md"
MARK = re.compile(r"\*\*\[(run|not run)\]\*\*")


def statements(text: str) -> list[str]:
    """Split into paragraphs, list items and tables; code belongs to what is around it."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(?=(\d+\.|-) )", "\n", text, flags=re.MULTILINE)
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    return [block for block in blocks if block and not block.startswith("#")]


def test_every_statement_is_marked_run_or_not_run() -> None:
    found = statements(PAGE.read_text("utf-8"))
    assert len(found) > 40
    unmarked = []
    for number, block in enumerate(found):
        captioned = block.startswith("|") and found[number - 1].rstrip().endswith(":")
        introduces = block.endswith(":") and number + 1 < len(found)
        if not MARK.search(block) and not captioned and not introduces:
            unmarked.append(block)
    assert unmarked == []


def test_no_other_way_of_marking_is_used() -> None:
    text = PAGE.read_text("utf-8")
    assert len(re.findall(r"\[(?:not )?run\]", text)) == len(MARK.findall(text))


def test_every_module_and_file_that_a_command_names_is_there() -> None:
    text = PAGE.read_text("utf-8")
    modules = set(re.findall(r"-m ((?:export_scripts|deploy)[.\w]+)", text))
    assert len(modules) >= 5
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for name in re.findall(r"\b((?:deploy|requirements|tests)/[\w/.-]+\w)", text):
        assert (ROOT / name).exists(), name
