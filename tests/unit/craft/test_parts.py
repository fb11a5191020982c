"""A picture made in parts is the picture made at once, in whatever order its parts are done."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from headshot.imaging import subject
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.framing import plan_crop
from headshot.imaging.parts import Part, both, one_by_one
from headshot.imaging.tiling import covered
from headshot.imaging.tone import ToneSpec
from headshot.pipeline import pictures, rendering

from tests.unit.craft import material


def backwards(parts: Sequence[Part]) -> None:
    """Do the last part first."""
    for part in reversed(parts):
        part()


@pytest.fixture(scope="module")
def person() -> rendering.Person:
    image, _ = material.astronaut_portrait()
    alpha = np.asarray(np.rint(material.person_alpha() * 255), np.uint8)
    frame = material.astronaut_frame()
    return rendering.cut_person(image, alpha, frame, ToneSpec(), "light", image)


@pytest.mark.parametrize("side", [640, 1200, 1999])
def test_an_enlarged_person_does_not_depend_on_the_order_of_its_parts(
    person: rendering.Person, side: int
) -> None:
    enlarged = cv2.resize(person.scene, (2560, 2560), interpolation=cv2.INTER_CUBIC)
    once = rendering.enlarge_person(person, enlarged, side)
    other = rendering.enlarge_person(person, enlarged, side, backwards)
    assert np.array_equal(once.alpha, other.alpha)
    assert np.array_equal(once.colours, other.colours)
    assert np.array_equal(once.scene, other.scene)
    assert once.grain == other.grain
    assert 0.0 < once.alpha.mean() < 1.0


@pytest.mark.parametrize("kind", ["solid", "gradient", "blur"])
def test_a_composed_crop_does_not_depend_on_the_order_of_its_parts(
    person: rendering.Person, kind: str
) -> None:
    spec, crop = BackgroundSpec(kind, colour="grey"), plan_crop(person.frame, person.alpha, 1.0)
    size = (640, 640)
    once = rendering.compose_crop(person, crop, size, spec, 3, 0.22)
    assert np.array_equal(
        once, rendering.compose_crop(person, crop, size, spec, 3, 0.22, backwards)
    )
    assert once.std() > 0


@pytest.mark.parametrize("order", [one_by_one, backwards])
def test_both_results_come_back_in_their_order(order) -> None:
    assert both(order, lambda: "first", lambda: "second") == ("first", "second")


def test_what_the_photos_matte_lets_enlarge_ahead_covers_the_person(
    person: rendering.Person,
) -> None:
    matte = np.asarray(np.rint(material.person_alpha(512) * 255), np.uint8)
    identity = np.eye(2, 3)
    opinion = subject.second_opinion(matte, person.side, identity, person.side)
    plan = pictures.plan_strips(rendering.likely_part(opinion, person.side), 13)
    ahead = covered(plan, (person.side, person.side))
    assert not (rendering.visible_part(person) & ~ahead).any()
    assert ahead.mean() < 0.9
