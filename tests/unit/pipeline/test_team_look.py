"""A team's shared background: who decides, and what happens when the first one cannot."""

from __future__ import annotations

import asyncio

import numpy as np
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.framing import FramingSpec, PortraitFrame, plan_portrait
from headshot.imaging.quality.team import MemberLook, compare_team
from headshot.pipeline.team import CLOSE_PORTRAIT, MOST_COMPARED, Composition, TeamLook

GREY, NAVY = BackgroundSpec("solid", colour="#808080"), BackgroundSpec("solid", colour="#1f2a44")


async def test_the_first_item_decides_however_late_it_is():
    look = TeamLook()
    first, second = look.join(), look.join()
    waiting = asyncio.ensure_future(second.background(NAVY))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert await first.background(GREY) == GREY
    assert await waiting == GREY


async def test_the_next_item_decides_where_the_first_one_fails():
    look = TeamLook()
    first, second, third = look.join(), look.join(), look.join()
    last = asyncio.ensure_future(third.background(GREY))
    waiting = asyncio.ensure_future(second.background(NAVY))
    await asyncio.sleep(0)
    first.leave()
    assert await waiting == NAVY
    assert await last == NAVY


async def test_an_item_may_ask_again_and_gets_the_same_answer():
    member = TeamLook().join()
    assert await member.background(GREY) == await member.background(NAVY) == GREY


async def test_the_first_items_crop_is_the_teams_crop_within_bounds():
    look = TeamLook()
    first, second = look.join("anna"), look.join("bert")
    waiting = asyncio.ensure_future(second.composition(Composition(0.34, 0.44)))
    await asyncio.sleep(0)
    assert not waiting.done()
    await first.composition(Composition(eye_line=0.44, head_height=0.62))
    asked = (await waiting).asked_of(FramingSpec())
    assert (asked.eye_line, asked.head_height) == (0.44, 0.62)


def frame_of(size: tuple[int, int], below: float) -> PortraitFrame:
    """Return the plan of a photo of that size whose face stands `below` of the height down."""
    eyes = size[1] * below
    landmarks = np.array([[-40, 0], [40, 0], [0, 46], [-32, 86], [32, 86]], np.float32) + np.array(
        [size[0] / 2, eyes], np.float32
    )
    return plan_portrait(landmarks, None, size)


def test_a_first_photo_with_room_gives_the_team_the_styles_crop():
    shared = Composition.of(frame_of((1200, 1400), 0.4))
    assert (shared.eye_line, shared.head_height) == (
        FramingSpec().eye_line,
        FramingSpec().head_height,
    )


def test_a_tight_first_photo_gives_the_team_the_close_portrait():
    tight = frame_of((400, 420), 0.42)
    assert tight.face.head_height / tight.canvas > 0.5
    assert Composition.of(tight) is CLOSE_PORTRAIT


def test_photos_that_can_give_the_close_portrait_give_it_to_the_pixel():
    asked = CLOSE_PORTRAIT.asked_of(FramingSpec())
    rng = np.random.default_rng(4)
    looks = []
    for _ in range(12):
        size = int(rng.integers(420, 900)), int(rng.integers(460, 900))
        eyes = (size[0] / 2 + rng.uniform(-8, 8), size[1] - rng.uniform(240, 250))
        points = np.array([[-40, 0], [40, 0], [0, 46], [-32, 86], [32, 86]]) * rng.uniform(0.9, 1)
        frame = plan_portrait((points + eyes).astype(np.float32), None, size, asked)
        looks.append((frame.face.eyes[1] / 640, frame.face.head_height / 640))
    lines, heads = np.array(looks).T
    assert np.ptp(lines) < 0.002
    assert heads.max() / heads.min() - 1 < 0.002


def test_each_report_is_of_all_that_have_finished():
    look = TeamLook()
    first, second = look.join("anna"), look.join("bert")
    one = compare_team(first.finish(MemberLook(0.34, 0.22, (53.6, 0.0, 0.0), 6500)))
    both = compare_team(second.finish(MemberLook(0.34, 0.25, (53.6, 0.0, 0.0), 6510)))
    assert (one.members, one.consistent) == (1, True)
    assert (both.members, both.consistent) == (2, False)
    assert both.outliers == {"bert": ("head_size",)}


def test_of_a_large_team_each_report_is_of_the_latest_members():
    look = TeamLook()
    own = MemberLook(0.34, 0.22, (53.6, 0.0, 0.0), 6500)
    early = look.join("early").finish(own)
    for number in range(MOST_COMPARED):
        latest = look.join(f"member {number}").finish(own)
    assert len(latest) == MOST_COMPARED
    assert "early" not in latest
    assert list(early) == ["early"]  # What was handed out stays as it was.
