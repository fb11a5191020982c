from __future__ import annotations

import pytest

from tests.unit.craft import material


@pytest.fixture(scope="session")
def portrait() -> tuple[material.U8, material.F32]:
    """The astronaut on her canvas, and the landmarks there."""
    return material.astronaut_portrait()


@pytest.fixture(scope="session")
def alpha() -> material.F32:
    return material.person_alpha()


@pytest.fixture(scope="session")
def photos() -> list[str]:
    names = material.photo_names()
    if not names:
        pytest.skip(f"no development photos in {material.PHOTOS} (set HEADSHOT_PHOTOS)")
    return names
