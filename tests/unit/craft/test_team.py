from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from headshot.imaging import compose, tone
from headshot.imaging.colour import linear_to_srgb, srgb_to_linear
from headshot.imaging.quality import MemberLook, compare_team, look_of
from headshot.imaging.tone import ToneSpec

from tests.unit.craft import material

LOOK = MemberLook(eye_line=0.34, head_size=0.22, background=(54, 0, 0), temperature=6500)


def test_a_team_of_equals_is_consistent() -> None:
    team = {
        "a": LOOK,
        "b": replace(LOOK, eye_line=0.345, temperature=6580),
        "c": replace(LOOK, head_size=0.222, background=(54.6, 0.2, 0)),
    }
    report = compare_team(team)
    assert report.consistent
    assert report.outliers == {}


@pytest.mark.parametrize(
    ("what", "odd"),
    [
        ("eye_line", replace(LOOK, eye_line=0.37)),
        ("head_size", replace(LOOK, head_size=0.23)),
        ("background", replace(LOOK, background=(60, 0, 0))),
        ("temperature", replace(LOOK, temperature=6900)),
    ],
)
def test_the_one_who_stands_out_is_named_with_the_reason(what: str, odd: MemberLook) -> None:
    report = compare_team({"a": LOOK, "b": LOOK, "c": odd})
    assert not report.consistent
    assert report.outliers == {"c": (what,)}


@pytest.mark.parametrize("lightnesses", [(50, 51.9), (50, 53.8), (50, 52, 54), (50, 51, 52)])
def test_a_team_is_consistent_exactly_where_nobody_stands_out(
    lightnesses: tuple[float, ...],
) -> None:
    report = compare_team(
        {str(level): replace(LOOK, background=(level, 0, 0)) for level in lightnesses}
    )
    assert report.background_spread == pytest.approx(max(lightnesses) - min(lightnesses))
    assert report.consistent == (report.background_spread <= 2)
    assert report.consistent == (report.outliers == {})


def test_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compare_team({})


def test_the_look_is_read_from_a_finished_headshot(
    portrait: tuple[material.U8, material.F32], alpha: material.F32
) -> None:
    image, landmarks = portrait
    result = compose.composite(image, alpha, material.plain((128, 128, 128)))
    look = look_of(result, landmarks, alpha, 6504)
    assert look.eye_line == pytest.approx(0.34, abs=0.003)
    assert look.background is not None
    assert look.background == pytest.approx((53.6, 0, 0), abs=0.3)


def test_a_headshot_without_any_background_has_no_background_tone(
    portrait: tuple[material.U8, material.F32],
) -> None:
    image, landmarks = portrait
    assert look_of(image, landmarks, np.ones((640, 640), np.float32), 6504).background is None


def test_the_own_scene_counts_as_no_tone(
    portrait: tuple[material.U8, material.F32], alpha: material.F32
) -> None:
    image, landmarks = portrait
    assert look_of(image, landmarks, alpha, 6504).background is None


def test_people_photographed_in_different_light_come_within_200_kelvin(
    portrait: tuple[material.U8, material.F32],
) -> None:
    image, landmarks = portrait
    after, before = [], []
    for gains in ((1.0, 1.0, 1.0), (1.03, 1.0, 0.96), (0.95, 1.0, 1.08)):
        light = np.array(gains, np.float32)
        lit = linear_to_srgb(srgb_to_linear(image) * light)
        _, report = tone.adjust(lit, landmarks, spec=tone.for_team(ToneSpec()))
        before.append(report.cct_before)
        after.append(report.cct_after)
    assert np.ptp(before) > 400  # kelvin
    assert np.ptp(after) <= 200


def test_those_who_stand_out_are_not_the_ones_who_belong_together() -> None:
    """With several tight photos the median lies between both kinds and would name everybody."""
    team = {f"alike {k}": replace(LOOK, head_size=0.22 + 0.0005 * k) for k in range(5)}
    team |= {f"tight {k}": replace(LOOK, head_size=0.27 + 0.02 * k) for k in range(4)}
    outliers = compare_team(team).outliers
    assert set(outliers) == {f"tight {k}" for k in range(4)}
    assert set(outliers.values()) == {("head_size",)}


def crowd(members: int, spread: float) -> dict[str, MemberLook]:
    """Return a team whose backgrounds lie a normal distance of `spread` CIELAB units apart."""
    rng = np.random.default_rng(0)
    grounds = np.array(LOOK.background) + rng.normal(0, spread, (members, 3))
    return {
        str(number): replace(LOOK, background=(float(at[0]), float(at[1]), float(at[2])))
        for number, at in enumerate(grounds)
    }


@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_a_crowd_alike_or_not_is_compared_in_a_moment(spread: float) -> None:
    begun = time.process_time()
    compare_team(crowd(1000, spread))
    assert time.process_time() - begun < 2  # Around each member in turn: half a minute and more.


def test_the_largest_group_is_within_the_tolerance_and_nobody_else_belongs_to_it() -> None:
    team = crowd(100, 1.0)
    apart = compare_team(team).outliers
    assert 0 < len(apart) < len(team)
    grounds = {name: np.array(look.background) for name, look in team.items()}
    group = [ground for name, ground in grounds.items() if name not in apart]
    assert max(np.linalg.norm(one - other) for one in group for other in group) <= 2
    for name in apart:
        assert max(np.linalg.norm(grounds[name] - other) for other in group) > 2
