"""Whatever goes wrong is a result of the run: it ends neither the run nor its own sample."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from loadtest.access import Access
from loadtest.machine import describe
from loadtest.report import page
from loadtest.requests import RequestMaker, example_photos
from loadtest.runner import Generator
from loadtest.scenario import Scenario, Work, load_scenario
from loadtest.summary import summarise
from tests.unit.loadtest.fake_service import FakeServicer, serving

TEAM = Work(kind="team", members=2)


def scenario(work: Work) -> Scenario:
    return Scenario(
        name="t", description="", arrivals="constant", seconds=0.5, warmup_s=0, work=(work,)
    )


async def test_a_team_with_a_refused_item_is_a_sample_of_both_loops() -> None:
    async with serving(FakeServicer()) as target:
        generator = Generator(Access(target), [b"x"])
        closed = await generator.closed([RequestMaker(TEAM, [b"x"])], 2, 0.1)
        opened = await generator.run(scenario(TEAM), 10)
    assert len(closed) == 2
    assert len(opened) == 5
    assert {(one.code, one.reason) for one in closed + opened} == {("ITEM_FAILED", "QUEUE_FULL")}


async def test_an_error_of_the_generator_itself_is_counted_in_both_loops() -> None:
    work = Work(kind="matte")
    async with serving(FakeServicer()) as target:
        generator = Generator(Access(target), [])
        closed = await generator.closed([RequestMaker(work, [])], 2, 0.1)
        opened = await generator.run(scenario(work), 10)
    assert summarise(opened, 1).codes == {"ZeroDivisionError": 5}
    assert summarise(closed, 1).codes == {"ZeroDivisionError": 2}


def test_photos_of_phones_are_found_whatever_their_suffix_is(tmp_path: Path) -> None:
    for name in ("a.jpeg", "b.HEIC", "c.webp", "d.JPG", "e.png", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    assert example_photos(tmp_path) == [b"a.jpeg", b"b.HEIC", b"c.webp", b"d.JPG", b"e.png"]


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="no photo in"):
        example_photos(tmp_path)


def test_without_a_folder_the_photo_is_of_a_phones_size() -> None:
    (photo,) = example_photos(None)
    assert Image.open(io.BytesIO(photo)).size == (2048, 2048)


def test_a_run_without_samples_has_a_report_that_says_so() -> None:
    text = page(load_scenario("create-web"), summarise([], 1), [], describe())
    assert "No request was sent after the warm-up" in text
