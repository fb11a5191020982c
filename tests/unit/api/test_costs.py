"""What requests cost, whatever numbers they hold."""

from __future__ import annotations

import pytest
from headshot.api import costs
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import style_pb2


def options(*sizes: tuple[int, int], candidates: int = 0) -> pb.HeadshotOptions:
    specs = [style_pb2.RenditionSpec(name="own", width=w, height=h) for w, h in sizes]
    return pb.HeadshotOptions(renditions=specs, candidates=candidates)


def test_a_usual_headshot_costs_one_for_each_candidate() -> None:
    assert costs.headshot(options()) == 1.0
    assert costs.headshot(options((1200, 1200), (2400, 2400))) == 1.0
    assert costs.headshot(options((0, 0), (800, 0), candidates=3)) == 3.0


def test_large_files_cost_more_up_to_a_bound() -> None:
    one, many = options((4096, 4096)), options(*[(4096, 4096)] * 16)
    assert costs.headshot(one) == pytest.approx(1 + (4096**2 - 8e6) / 12e6)
    assert costs.headshot(many) == 9.0


def test_absurd_numbers_have_a_bounded_cost() -> None:
    wild = options(*[(2**32 - 1, 2**32 - 1)] * 99, candidates=2**32 - 1)
    assert costs.headshot(wild) == 16.0
    assert costs.denoise(2**32 - 1) == 4.25


def test_each_further_photo_costs_a_little() -> None:
    assert costs.photos(0) == costs.photos(1) == costs.STAGE
    assert costs.photos(16) == pytest.approx(1.0)
