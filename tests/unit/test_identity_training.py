from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("safetensors", reason="training environment only: requirements/train.txt")

from export_scripts.datasets.augment_faces import Augmenter  # noqa: E402
from export_scripts.networks import identity_encoder as network  # noqa: E402
from export_scripts.training.distillation import Batch, Replay  # noqa: E402
from export_scripts.training.identity_encoder import (  # noqa: E402
    EARLY_STAGES,
    TEACHER_MAPS,
    FrozenStages,
    begin,
    early_losses,
    freeze_early,
    late_losses,
    local_losses,
    seconds_until,
)
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


def teacher_shapes() -> list[tuple[int, ...]]:
    net = network.build().eval()
    with torch.no_grad():
        return [tuple(m.shape[1:]) for m in net.maps(torch.zeros(1, 3, 112, 112))]


def random_batch(faces: int = 4) -> Batch:
    targets = {i: torch.randn(faces, *shape) for i, shape in enumerate(teacher_shapes())}
    views = np.random.default_rng(0).integers(0, 256, (faces, 3, 112, 112), dtype=np.uint8)
    return Batch(views, targets)


def touched_stages(net: torch.nn.Module) -> set[int]:
    return {int(n.split(".")[1]) for n, p in net.named_parameters() if p.grad is not None}


def test_a_block_learns_alone_what_the_teachers_block_adds() -> None:
    torch.manual_seed(0)
    net, batch = network.build(), random_batch()
    assert len(batch.targets) == len(TEACHER_MAPS)
    local_losses(net, batch)["_plus0"].backward()
    assert touched_stages(net) == {2}
    with torch.no_grad():  # a block that adds what the teacher's adds has the noise as its error
        net.stages[2].narrow.weight.zero_()
        net.stages[2].narrow.bias.fill_(0.5)
        noise = torch.randn_like(batch.targets[1])
        batch.targets[2] = batch.targets[1] + 0.5 + 0.01 * noise
        assert local_losses(net, batch)["_plus0"] == pytest.approx(1.0, rel=0.05)


def test_the_early_chain_leaves_the_late_stages_alone() -> None:
    torch.manual_seed(0)
    net = network.build()
    torch.stack(list(early_losses(net, random_batch()).values())).sum().backward()
    assert touched_stages(net) == set(range(EARLY_STAGES))


def test_frozen_stages_give_the_averaged_networks_map_and_learn_no_more() -> None:
    torch.manual_seed(0)
    net, average = network.build(), network.build()
    freeze_early(net, average.state_dict())
    batch = random_batch(2)
    started = FrozenStages(net)(batch)
    x = torch.from_numpy(batch.views).float() / 127.5 - 1
    with torch.no_grad():
        expected = average.eval().stages[:EARLY_STAGES]
        for stage in expected:
            x = stage(x)
    assert started.entry is not None
    torch.testing.assert_close(started.entry, x, rtol=1e-3, atol=1e-3)
    torch.stack(list(late_losses(net, started).values())).sum().backward()
    assert touched_stages(net) == set(range(EARLY_STAGES, len(TEACHER_MAPS)))


def test_replay_hands_a_batch_out_as_often_as_asked_and_no_more() -> None:
    replay, made = Replay(0, size=4, uses=2), []

    def fresh() -> Batch:
        made.append(Batch(np.empty((0,), np.uint8), {}))
        return made[-1]

    drawn = [id(replay(fresh)) for _ in range(200)]
    assert max(drawn.count(id(b)) for b in made) == 2
    assert len(made) < 120


def test_a_clock_time_is_the_next_of_its_kind() -> None:
    now = datetime(2026, 11, 26, 22, 30, 15, tzinfo=UTC)
    assert seconds_until("23:00", now) == 30 * 60 - 15
    assert seconds_until("06:30", now) == 8 * 3600 - 15


def test_a_training_resumed_until_a_time_goes_on_to_it_whatever_it_spent_before(
    tmp_path: Path,
) -> None:
    net = network.build()
    before = begin(net, tmp_path, 60, None, resume=False)
    before.spent = 6 * 3600.0
    before.save()
    in_ten_minutes = datetime.now().astimezone() + timedelta(minutes=10)
    run = begin(net, tmp_path, 60, f"{in_ten_minutes:%H:%M}", resume=True)
    assert run.start_step()
    assert 8.5 * 60 < run.seconds - run.spent <= 10 * 60
    assert run.progress > 0.9
