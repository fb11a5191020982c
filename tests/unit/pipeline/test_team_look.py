"""A team's shared background: who decides, and what happens when the first one cannot."""

from __future__ import annotations

import asyncio

from headshot.imaging.background import BackgroundSpec
from headshot.imaging.framing import FramingSpec
from headshot.imaging.quality.team import MemberLook
from headshot.pipeline.team import Composition, TeamLook

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


def test_a_team_does_not_follow_a_photo_that_fills_the_frame_with_the_face():
    asked = Composition(eye_line=0.52, head_height=1.05).asked_of(FramingSpec())
    assert asked.head_height == 0.70
    assert asked.eye_line == FramingSpec().eye_line_range[1]


def test_each_report_is_of_all_that_have_finished():
    look = TeamLook()
    first, second = look.join("anna"), look.join("bert")
    one = first.compare(MemberLook(0.34, 0.22, (53.6, 0.0, 0.0), 6500))
    both = second.compare(MemberLook(0.34, 0.25, (53.6, 0.0, 0.0), 6510))
    assert (one.members, one.consistent) == (1, True)
    assert (both.members, both.consistent) == (2, False)
    assert both.outliers == {"bert": ("head_size",)}
