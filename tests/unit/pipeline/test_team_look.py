"""A team's shared background: who decides, and what happens when the first one cannot."""

from __future__ import annotations

import asyncio

from headshot.imaging.background import BackgroundSpec
from headshot.pipeline.team import TeamLook

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
