"""How the matting network learns: crops, hints to single stages, views of photos kept small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("ai_edge_litert", reason="training environment only: requirements/train.txt")

from export_scripts.datasets.figures import head_of  # noqa: E402
from export_scripts.datasets.packed import PackWriter, encode_jpeg, encode_png  # noqa: E402
from export_scripts.networks.matting import SEAMS, Trunk  # noqa: E402
from export_scripts.training.matting import CROP, Hints, edge_crops  # noqa: E402
from export_scripts.training.matting_samples import MattingSamples, drapery  # noqa: E402
from export_scripts.training.precision import native_bfloat16  # noqa: E402

SIDE = 512


def test_a_crop_shows_the_same_place_at_every_resolution() -> None:
    rows = torch.arange(SIDE).float()[None, None, :, None].expand(2, 1, SIDE, SIDE) / SIDE
    truth = torch.zeros(2, 1, SIDE, SIDE)
    truth[:, :, 300, 400] = 0.5  # the only soft pixel
    quarter = torch.nn.functional.avg_pool2d(rows, 4)
    generator = torch.Generator().manual_seed(0)
    cut, soft, _, small = edge_crops(generator, rows, truth, truth, [quarter])
    assert cut.shape == (2, 1, CROP, CROP)
    assert small.shape == (2, 1, CROP // 4, CROP // 4)
    assert (soft == 0.5).sum() == 2
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(cut, 4), small)


def teacher_maps() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    a, b, c, d = SEAMS
    shapes = {
        "down128": (a, 128),
        "down64": (b, 64),
        "down32": (c, 32),
        "down16": (d, 16),
        "rise32": (c, 32),
        "rise64": (b, 64),
        "rise128": (a, 128),
    }
    maps = {
        name: 3 * torch.randn(2, channels, side, side, generator=generator) + 5
        for name, (channels, side) in shapes.items()
    }
    maps["mask"] = torch.rand(2, 1, 256, 256, generator=generator)
    return maps


def test_a_hint_reaches_the_stage_that_it_is_for_and_no_other() -> None:
    torch.manual_seed(0)
    trunk, maps = Trunk(), teacher_maps()
    losses = Hints(started=True).stages(trunk, torch.randn(2, 3, 256, 256), maps)
    losses["down32"].backward()
    touched = {name.split(".")[0] for name, p in trunk.named_parameters() if p.grad is not None}
    assert touched == {"down32"}


def test_training_starts_near_the_mean_and_spread_of_the_teachers_maps() -> None:
    torch.manual_seed(0)
    trunk, maps = Trunk(), teacher_maps()
    hints = Hints(started=False)
    before = hints.stages(trunk, torch.randn(2, 3, 256, 256), maps)
    hints.start(trunk, maps)
    after = hints.stages(trunk, torch.randn(2, 3, 256, 256), maps)
    assert hints.started
    for name in ("down64", "down32", "down16"):
        assert before[name] > 2.5  # the mean is 5, the deviation 3
        assert after[name] < 2.5


def test_a_photo_kept_small_gives_the_face_in_its_own_pixels(tmp_path: Path) -> None:
    photo = np.full((800, 600, 3), 120, np.uint8)
    grey = np.full((800, 600), 255, np.uint8)
    for name in ("mattes", "masks", "figures", "wild", "backgrounds", "streets"):
        with PackWriter(tmp_path / name) as pack:
            blobs = {
                "image": encode_jpeg(photo),
                "colour": encode_jpeg(photo),
                "alpha": encode_png(grey),
                "confidence": encode_png(grey),
            }
            pack.add("a", blobs, face=[100.0, 200.0, 300.0, 400.0], plain=True, agreement=1.0)
    samples = MattingSamples(tmp_path, longest=400)
    assert samples._read(samples.masks, 0, "image").shape == (400, 300, 3)
    assert samples._face(samples.masks, 0) == [50.0, 100.0, 150.0, 200.0]
    image, alpha, confidence = samples.sample(np.random.default_rng(0), 256)
    assert image.shape == (256, 256, 3)
    assert alpha.shape == confidence.shape == (256, 256)
    over_cloth = MattingSamples(tmp_path, composites=1.0, cloth=0.82)
    image, alpha, _ = over_cloth.sample(np.random.default_rng(0), 256)
    assert (alpha > 200).any()
    assert not over_cloth._scenes  # walls and cloth only: no photo was opened for a background


def test_drapery_repeats_with_its_seed_and_has_edges() -> None:
    first, again = (drapery(np.random.default_rng(3), 128) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (128, 128, 3)
    contrast = [drapery(np.random.default_rng(seed), 128).std() for seed in range(12)]
    assert min(contrast) > 1
    assert max(contrast) > 40


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fpu avx2 fma", False), ("fpu avx512f avx512_bf16", True), ("fpu amx_bf16 amx_tile", True)],
)
def test_bfloat16_is_used_where_the_processor_names_it(
    tmp_path: Path, flags: str, native: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert native_bfloat16(cpuinfo) is native
    assert not native_bfloat16(tmp_path / "absent")


def test_the_head_of_the_largest_figure_is_where_its_top_is() -> None:
    numbers = np.zeros((400, 300), np.uint8)
    numbers[10:60, 20:40] = 1  # someone far away
    numbers[100:400, 150:210] = 2
    numbers[100:140, 150:210] = 0
    numbers[100:140, 170:190] = 2  # a head on shoulders
    left, top, right, bottom = head_of(numbers)
    assert (left + right) / 2 == 179.5
    assert (right - left, top, bottom) == (30.0, 100.0, 140.0)
