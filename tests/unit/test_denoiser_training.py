"""What the denoiser's network computes by construction, and what its loss asks for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training environment only: requirements/train.txt")
pytest.importorskip("safetensors", reason="training environment only: requirements/train.txt")

import torch

from export_scripts.networks.denoiser import (
    BLOCK,
    DIRECTIONS,
    IDENTITY,
    LINE,
    LUMA,
    SHIFT,
    build,
    line_kernel,
    seen_from,
    view_of,
    ways,
)
from export_scripts.training.denoiser import error_floor, restoration_loss


@pytest.mark.parametrize("direction", range(DIRECTIONS))
def test_a_line_kernel_over_blocks_is_a_blur_along_that_line_over_pixels(direction: int) -> None:
    photo = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(direction))
    blocks = torch.nn.functional.pixel_unshuffle(photo, BLOCK)
    change = torch.nn.functional.conv2d(blocks, line_kernel(direction), padding=1)
    ours = torch.nn.functional.pixel_shuffle(change, BLOCK)[0, 0].numpy()
    y, x = np.mgrid[-BLOCK : BLOCK + 1, -BLOCK : BLOCK + 1]
    angle = np.pi * direction / DIRECTIONS
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / LINE[0]) ** 2 + (across / LINE[1]) ** 2))
    light = np.einsum("chw,c->hw", photo[0].numpy(), np.float32(LUMA))
    blurred = cv2.filter2D(light, -1, kernel / kernel.sum())
    inside = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(ours[inside], (blurred - light)[inside], atol=1e-5)


def test_a_network_whose_head_is_zero_changes_nothing() -> None:
    net = build()
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    photo = torch.rand(1, 3 * BLOCK**2, 16, 16) * 2 - 1
    assert float(net(torch.zeros(1, IDENTITY), photo).abs().max()) == 0.0


def test_a_row_of_a_batch_does_not_see_the_others() -> None:
    net = build().eval()
    photos = torch.rand(2, 3 * BLOCK**2, 16, 16) * 2 - 1
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
    floors = [error_floor(progress) for progress in (0.0, 0.3, 0.7, 1.0)]
    assert floors[0] > floors[1] > floors[2] == floors[3]


@pytest.mark.parametrize("strength", [1.0, 0.9, 0.8])
def test_four_steps_see_the_photo_in_four_ways(strength: float) -> None:
    across, down = view_of(torch.linspace(strength, 0, 5)[:-1])
    assert across.tolist() == [False, True, False, True]
    assert down.tolist() == [False, False, True, True]


def test_what_a_view_mirrors_comes_back_to_its_place() -> None:
    photo = torch.randn(4, 3, 24, 24)
    across, down = view_of(torch.tensor([1.0, 0.75, 0.5, 0.25]))
    y, y_back = ways(down, across, 24)
    x, x_back = ways(across, down, 24)
    view = seen_from(photo, y, x)
    inside = np.s_[:, :, SHIFT:-SHIFT, SHIFT:-SHIFT]
    assert torch.equal(seen_from(view, y_back, x_back)[inside], photo[inside])
    # Mirrored across and moved down: the first row repeats, columns are reversed.
    assert torch.equal(view[1, :, SHIFT:], photo[1, :, :-SHIFT].flip(-1))
    assert torch.equal(view[1, :, 0], photo[1, :, 0].flip(-1))
    assert torch.equal(view[0], photo[0])
