"""What requests cost, whatever numbers they hold."""

from __future__ import annotations

import pytest
from headshot.api import costs
from headshot.api.costs import Cost
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import style_pb2


def options(*sizes: tuple[int, int], candidates: int = 0, steps: int = 0) -> pb.HeadshotOptions:
    specs = [style_pb2.RenditionSpec(name="own", width=w, height=h) for w, h in sizes]
    return pb.HeadshotOptions(renditions=specs, candidates=candidates, steps=steps)


def test_a_usual_headshot_costs_one_for_each_candidate() -> None:
    assert costs.headshot(options()) == Cost(1.0, 1.0)
    assert costs.headshot(options((1200, 1200), (2400, 2400))) == Cost(1.0, 1.0)
    assert costs.headshot(options((0, 0), (800, 0), candidates=3)) == Cost(3.0, 3.0)
    assert costs.headshot(options(steps=8)) == Cost(1.0, 1.0)


def test_large_files_cost_more_up_to_a_bound() -> None:
    one, many = options((4096, 4096)), options(*[(4096, 4096)] * 16)
    assert costs.headshot(one).permits == pytest.approx(1 + (4096**2 - 8e6) / 12e6)
    assert costs.headshot(many) == Cost(9.0, 9.0)


def test_a_preset_costs_what_its_size_costs() -> None:
    presets = pb.HeadshotOptions(renditions=[style_pb2.RenditionSpec(name="print")] * 16)
    assert costs.headshot(presets) == costs.headshot(options(*[(2400, 2400)] * 16))


def test_more_steps_and_photos_are_more_work_on_no_more_permits() -> None:
    assert costs.headshot(options(candidates=2, steps=50)) == Cost(2.0, 12.5)
    assert costs.headshot(options(), 5).permits == 1.0
    assert costs.headshot(options(), 5).work == pytest.approx(1.2)
    loop = pb.DenoiseRequest(candidates=2, steps=16)
    assert costs.denoise(loop) == Cost(1.25, 2.25)


def test_absurd_numbers_have_a_bounded_cost() -> None:
    most = 2**32 - 1
    wild = options(*[(most, most)] * 99, candidates=most, steps=most)
    assert costs.headshot(wild, most) == Cost(16.0, pytest.approx(8 * 50 / 8 + 8 + 0.8))
    loop = pb.DenoiseRequest(candidates=most, steps=most)
    assert costs.denoise(loop) == Cost(4.25, 0.25 + 4 * 50 / 8)


def test_each_further_photo_costs_a_little() -> None:
    assert costs.photos(0) == costs.photos(1) == Cost(0.25, 0.25)
    assert costs.photos(16).permits == pytest.approx(1.0)
