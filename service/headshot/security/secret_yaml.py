"""Reading YAML that holds secrets: what is wrong with it is told without quoting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def load_yaml(path: Path) -> Any:
    """Return what a YAML file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not YAML; the message names the line and quotes nothing of it.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{path.name} is not well-formed YAML{where}") from None
