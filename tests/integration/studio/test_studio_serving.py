"""A studio-shaped repository through the real Triton and the gateway."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("grpc_health", reason="the service's environment serves")

from export_scripts.studio import serve_check

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository() -> Path:
    """The repository that `python -m export_scripts.studio.check --keep build/studio` leaves."""
    folder = Path(os.environ.get("HEADSHOT_STUDIO_REPOSITORY", ROOT / "build" / "studio"))
    if not (folder / "denoiser" / "1" / "model.onnx").is_file():
        pytest.skip("no studio repository: make studio-check, or set HEADSHOT_STUDIO_REPOSITORY")
    return folder


async def test_every_model_loads_and_equals_the_runtime_called_directly(repository: Path) -> None:
    lines = await serve_check.run(repository)
    assert len(lines) == 11
    assert [line for line in lines if not line.holds] == []


async def test_triton_reads_every_runtime_variant(repository: Path) -> None:
    lines = await serve_check.check_variants(repository)
    assert len(lines) == 3
    assert [line for line in lines if not line.holds] == []


async def test_a_headshot_goes_through_the_studio_shaped_stack(
    repository: Path, tmp_path: Path
) -> None:
    data = pytest.importorskip("skimage.data")
    photo = Path(data.__file__).parent / "astronaut.png"
    compact = ROOT / "model_repository"
    mixed = serve_check.borrow(repository, compact, ["face_detector"], tmp_path / "mixed")
    lines = await serve_check.run_headshot(mixed, photo.read_bytes(), 0.3)
    assert len(lines) >= 5
    assert [line for line in lines if not line.holds] == []
