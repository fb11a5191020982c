from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("safetensors", reason="training environment only: requirements/train.txt")

from export_scripts.datasets.augment_faces import Augmenter  # noqa: E402
from export_scripts.networks import identity_encoder as network  # noqa: E402
from export_scripts.training.muon import orthogonalised  # noqa: E402


def test_folding_the_batch_norms_changes_nothing() -> None:
    torch.manual_seed(0)
    net = network.build()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    net.eval()
    x = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        expected, folded = net(x), network.fold_batch_norms(net)(x)
    torch.testing.assert_close(folded, expected, rtol=1e-3, atol=1e-4)


def test_replacing_a_map_reaches_the_next_stage_only() -> None:
    torch.manual_seed(0)
    net = network.build().eval()
    x = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        free = net.maps(x)
        replaced = [m.clone() for m in free[:-1]]
        replaced[4] = replaced[4] + torch.randn_like(replaced[4])
        forced = net.maps(x, replaced)
    changed = [not torch.equal(a, b) for a, b in zip(free, forced, strict=True)]
    assert changed == [i == 5 for i in range(len(free))]


def test_muon_turns_a_gradient_into_a_nearly_orthogonal_update() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(32, 128, generator=generator)
    spread = torch.linalg.svdvals(orthogonalised(matrix, 5))
    assert spread.min() > 0.5
    assert spread.max() < 1.5


def test_a_view_is_a_planar_face_and_repeats_with_the_seed() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    index = np.array([[0, i] for i in range(4)])
    first, again, other = (Augmenter([crops], index, s).batch(6) for s in (1, 1, 2))
    assert first.shape == (6, 3, 112, 112)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
