"""What the denoiser's network computes by construction, and what its loss asks for."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("safetensors", reason="training environment only: requirements/train.txt")

import torch

from export_scripts.networks.denoiser import (
    BLOCK,
    CANVAS,
    IDENTITY,
    LATENT_FACTOR,
    SHIFT,
    FilmBlock,
    blocks,
    build,
    places,
    serving,
    view_of,
    ways,
)
from export_scripts.training.denoiser import error_floor, restoration_loss


def photo_of(side: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Bytes of a photo in -1..1: [batch, 3, side, side]."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, side, side), generator=random) / 127.5 - 1


def test_the_scene_steers_what_is_done_far_from_where_it_was_seen() -> None:
    net = build().eval()
    for block in net.modules():
        if isinstance(block, FilmBlock):
            torch.nn.init.normal_(block.film.weight, std=0.1)
    left, right = photo_of(512), photo_of(512)
    right[..., 384:] *= 0.2
    with torch.no_grad():
        first, second = (net(torch.zeros(1, IDENTITY), blocks(p)) for p in (left, right))
        for parameter in net.scene.parameters():
            torch.nn.init.zeros_(parameter)
        blind = [net(torch.zeros(1, IDENTITY), blocks(p)) for p in (left, right)]
    # Convolutions alone reach 200 pixels, less than the 256 between here and the change.
    far = np.s_[..., : 128 // BLOCK]
    assert not torch.allclose(first[far], second[far], rtol=1e-3)
    assert torch.equal(blind[0][far], blind[1][far])


def test_a_network_whose_head_is_zero_changes_nothing() -> None:
    net = build()
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    assert float(net(torch.zeros(1, IDENTITY), blocks(photo_of(64))).abs().max()) == 0.0


def test_a_row_of_a_batch_does_not_see_the_others() -> None:
    net = build().eval()
    photos = blocks(photo_of(64, batch=2))
    identity = torch.zeros(2, IDENTITY)
    with torch.no_grad():
        both, alone = net(identity, photos), net(identity[:1], photos[:1])
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-4)


def test_making_a_photo_worse_costs_more_than_making_it_better_gains() -> None:
    sharp = torch.zeros(1, 3, 8, 8)
    reference = sharp + 0.1
    floor = error_floor(1.0)
    unchanged = float(restoration_loss(reference, reference, sharp, floor, 2.0))
    better = float(restoration_loss(sharp + 0.09, reference, sharp, floor, 2.0))
    worse = float(restoration_loss(sharp + 0.11, reference, sharp, floor, 2.0))
    assert better < unchanged < worse
    assert worse - unchanged > 2 * (unchanged - better)


def test_the_floor_of_the_error_falls_and_stays_down() -> None:
    floors = [error_floor(progress) for progress in (0.0, 0.15, 0.3, 1.0)]
    assert floors[0] > floors[1] > floors[2] == floors[3]


@pytest.mark.parametrize("strength", [1.0, 0.9, 0.8])
def test_four_steps_see_the_photo_in_four_ways(strength: float) -> None:
    across, down = view_of(torch.linspace(strength, 0, 5)[:-1])
    assert across.tolist() == [False, True, False, True]
    assert down.tolist() == [False, False, True, True]


def seen(photo: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, cell: int) -> torch.Tensor:
    """Cells of a photo uint8 [N, H, W, 3] read by its places: [N, 3 cell^2, H / cell, W / cell]."""
    side = photo.shape[1]
    index = places(rows * (3 * side), columns * 3, torch.arange(3), cell)
    read = torch.gather(photo.flatten(1), 1, index)
    return read.reshape(len(photo), 3 * cell**2, side // cell, side // cell)


def test_places_without_a_view_are_those_of_pixel_unshuffle() -> None:
    photo = torch.randint(0, 256, (2, 24, 24, 3), dtype=torch.uint8)
    straight = torch.arange(24).expand(2, -1)
    expected = torch.nn.functional.pixel_unshuffle(photo.permute(0, 3, 1, 2), 4)
    assert torch.equal(seen(photo, straight, straight, 4), expected)


def test_a_view_is_mirrored_and_moved_and_its_edge_repeats() -> None:
    photo = torch.randint(0, 256, (4, 24, 24, 3), dtype=torch.uint8)
    across, down = view_of(torch.tensor([1.0, 0.75, 0.5, 0.25]))
    y, _ = ways(down, across, 24)
    x, _ = ways(across, down, 24)
    view = torch.nn.functional.pixel_shuffle(seen(photo, y, x, 4), 4).permute(0, 2, 3, 1)
    assert torch.equal(view[0], photo[0])
    # Mirrored across and moved down: the first rows repeat, columns are reversed.
    assert torch.equal(view[1, SHIFT:], photo[1, :-SHIFT].flip(1))
    assert torch.equal(view[1, 0], photo[1, 0].flip(0))


def test_what_a_view_changes_comes_back_to_its_place() -> None:
    """The served graph around a network that returns its photo in a tenth of its size."""
    net = build().eval()
    net.forward = lambda _identity, codes: (codes + 0.5) / 1275  # type: ignore[method-assign]
    photo = torch.randint(64, 192, (4, CANVAS, CANVAS, 3), dtype=torch.uint8)
    state = photo.permute(0, 3, 1, 2) / 127.5 - 1
    time = torch.tensor([1.0, 0.75, 0.5, 0.25])
    sample = torch.nn.functional.pixel_unshuffle(state, LATENT_FACTOR)
    with torch.no_grad():
        velocity = serving(net)(sample.half(), time, torch.zeros(4, IDENTITY), photo)
    change = -torch.nn.functional.pixel_shuffle(velocity.float(), LATENT_FACTOR)
    inside = np.s_[:, :, SHIFT:-SHIFT, SHIFT:-SHIFT]
    torch.testing.assert_close(change[inside], (state / 10)[inside], atol=2e-3, rtol=0)
