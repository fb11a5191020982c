"""Parts of the service that need no models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from headshot.pipeline.workers import Workers

from tests.unit.api.parts import Parts, make_parts


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    workers = Workers(1)
    yield make_parts(workers, tmp_path / "audit.jsonl")
    workers.close()


@pytest.fixture
def strict_parts(tmp_path: Path) -> Iterator[Parts]:
    """The same where the operator requires consent."""
    workers = Workers(1)
    yield make_parts(workers, tmp_path / "audit.jsonl", require_consent=True)
    workers.close()
