"""The upscaler works ahead, on the right picture, and its failures matter only to who asks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.imaging.tiling import Tile, covered
from headshot.pipeline import enlarging
from headshot.pipeline.call import Call
from headshot.pipeline.degrade import StageCosts
from headshot.pipeline.engine import Engine

FIRST, SECOND = (np.full((2, 2, 3), level, np.uint8) for level in (1, 2))


class Upscaler:
    """Answers when it is let, with the picture it was given."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.cancelled: list[int] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, _engine: Any, _call: Call, image: np.ndarray) -> np.ndarray:
        level = int(image[0, 0, 0])
        self.seen.append(level)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(level)
            raise
        if self.error is not None:
            raise self.error
        return image


@pytest.fixture
def upscaler(monkeypatch: pytest.MonkeyPatch) -> Upscaler:
    made = Upscaler()
    monkeypatch.setattr(enlarging.pictures, "upscale", made)
    return made


def begin(*, ahead: bool = True) -> enlarging.Enlarging:
    call = Call(Deadline.after(30))
    return enlarging.Enlarging(cast(Engine, None), call, StageCosts(), ahead=ahead)


async def test_a_picture_that_was_begun_early_is_enlarged_once(upscaler):
    async with begin() as work:
        await work.begin(FIRST)
        await asyncio.sleep(0)
        assert upscaler.seen == [1]
        upscaler.go.set()
        assert await work.result(FIRST) is FIRST
    assert upscaler.seen == [1]


async def test_another_choice_drops_the_work_that_was_begun(upscaler):
    async with begin() as work:
        await work.begin(FIRST)
        await asyncio.sleep(0)
        upscaler.go.clear()
        await work.begin(SECOND)
        await asyncio.sleep(0)
        assert upscaler.cancelled == [1]
        upscaler.go.set()
        assert await work.result(SECOND) is SECOND


async def test_nothing_begins_early_where_no_file_may_need_it(upscaler):
    async with begin(ahead=False) as work:
        await work.begin(FIRST)
        await asyncio.sleep(0)
        assert upscaler.seen == []
        upscaler.go.set()
        assert await work.result(FIRST) is FIRST


async def test_a_headshot_that_is_refused_stops_the_upscaler(upscaler):
    with pytest.raises(ValueError, match="refused"):
        async with begin() as work:
            await work.begin(FIRST)
            await asyncio.sleep(0)
            raise ValueError("refused")
    assert upscaler.cancelled == [1]


async def test_a_failure_is_raised_to_who_asks_for_the_result(upscaler):
    upscaler.error = RuntimeError("no memory")
    upscaler.go.set()
    with pytest.raises(RuntimeError, match="no memory"):
        async with begin() as work:
            await work.begin(FIRST)
            await work.result(FIRST)


async def test_a_failure_that_nobody_asks_for_is_none(upscaler):
    upscaler.error = RuntimeError("no memory")
    upscaler.go.set()
    async with begin() as work:
        await work.begin(FIRST)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class _Parts:
    """Stands for `pictures.upscale_strips`: marks what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def __call__(
        self, _engine: Any, _call: Call, image: np.ndarray, plan: list[Tile], onto: Any = None
    ) -> np.ndarray:
        made = np.zeros(image.shape, np.uint8) if onto is None else onto
        self.asked.append(int(covered(plan, image.shape[:2]).sum()))
        made[covered(plan, image.shape[:2])] = 255
        return made


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> _Parts:
    made = _Parts()
    monkeypatch.setattr(enlarging.pictures, "upscale_strips", made)
    return made


def parted(overlap: int) -> enlarging.Enlarging:
    models = SimpleNamespace(upscaler=SimpleNamespace(overlap=overlap, scale=4))
    call = Call(Deadline.after(30))
    engine = cast(Engine, SimpleNamespace(models=models))
    return enlarging.Enlarging(engine, call, StageCosts(), ahead=True)


def rows(first: int, last: int) -> np.ndarray:
    mask = np.zeros((640, 640), bool)
    mask[first:last, 100:200] = True
    return mask


async def test_only_what_is_needed_is_enlarged_and_what_was_missed_is_added(parts):
    image = np.zeros((640, 640, 3), np.uint8)
    async with parted(13) as work:
        await work.begin(image, rows(0, 100))
        made = await work.result(image, rows(0, 300))
    assert made[rows(0, 300)].all()
    assert not made[:, 300:].any()
    assert len(parts.asked) == 2
    assert sum(parts.asked) < 640 * 640 / 4


async def test_who_needs_all_of_it_gets_all_of_it_from_the_upscaler(parts, upscaler):
    upscaler.go.set()
    image = np.full((640, 640, 3), 3, np.uint8)
    async with parted(13) as work:
        await work.begin(image, rows(0, 100))
        assert await work.result(image) is image
    assert upscaler.seen == [3]


async def test_an_upscaler_of_wide_margins_works_on_the_whole(parts, upscaler):
    upscaler.go.set()
    image = np.full((640, 640, 3), 4, np.uint8)
    async with parted(64) as work:
        assert await work.result(image, rows(0, 100)) is image
    assert parts.asked == []
