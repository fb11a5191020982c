"""The scenarios of `make chaos`, each as a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import serving_repository
from tests.chaos.run import line
from tests.chaos.scenarios import SCENARIOS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serving_repository(tmp_path_factory.mktemp("models"))[0]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_no_request_is_lost_and_no_answer_wrong(name: str, repository: Path) -> None:
    row = await SCENARIOS[name](repository)
    assert row.passed, line(row)
