"""What one headshot hands from stage to stage: the template, the team's tone, the files' facts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.decode import DecodeLimits
from headshot.imaging.metadata import read_metadata
from headshot.imaging.tone import ToneSpec
from headshot.pipeline import create, rendering
from headshot.pipeline import finishing as finishing_module
from headshot.pipeline.ahead import Ahead
from headshot.pipeline.call import Call
from headshot.pipeline.capture import Seen, SeenSet
from headshot.pipeline.create import Maker
from headshot.pipeline.degrade import Effort, StageCosts
from headshot.pipeline.enlarging import Enlarging
from headshot.pipeline.finishing import Finished, Finishing
from headshot.pipeline.identity import Template
from headshot.pipeline.requests import HeadshotOptions, HeadshotRequest, RenditionRequest
from headshot.pipeline.styles import load_styles
from headshot.pipeline.team import TeamLook, TeamMember
from headshot.pipeline.wishes import Wish, resolve
from headshot.pipeline.workers import Workers
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry

from tests.unit.craft import material

STYLE = load_styles(None).get("corporate-finance")
OPTIONS = HeadshotOptions(renditions=(RenditionRequest("own", width=64),))
ANN, BEN = (np.eye(4, dtype=np.float32)[axis] for axis in (0, 1))


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def person() -> rendering.Person:
    image, _ = material.astronaut_portrait()
    alpha = np.asarray(np.rint(material.person_alpha() * 255), np.uint8)
    return rendering.cut_person(image, alpha, material.astronaut_frame(), ToneSpec(), "none", image)


def maker(workers: Workers, profile: str = "compact") -> Maker:
    models = SimpleNamespace(
        profile=profile,
        encoder=SimpleNamespace(recogniser="first"),
        denoiser=SimpleNamespace(
            canvas=640,
            steps=4,
            default_strength=0.5,
            sampler="flow_euler",
            noise_scale=0.0,
            inputs=frozenset(),
        ),
    )
    metrics = Metrics(CollectorRegistry())
    engine = SimpleNamespace(models=models, metrics=metrics, workers=workers)
    return Maker(cast("Any", engine), StageCosts(), DecodeLimits(), 1600, 2, None, None)


class Drafted(Exception):  # noqa: N818 - no error: ends the work where the draft begins
    """The draft would begin."""


@dataclass
class Handed:
    """What came as far as the draft."""

    template: Template
    wish: Wish


async def handed_to_the_draft(
    monkeypatch: pytest.MonkeyPatch,
    workers: Workers,
    request: HeadshotRequest,
    look: TeamMember | None = None,
) -> Handed:
    """Make a headshot of one photo, whose second embedding is Ben's, as far as its draft."""
    caught: list[Handed] = []
    seen = Seen(0, np.zeros((8, 8, 3), np.uint8), cast("Any", None), ANN, 1.0, second=BEN)

    async def examine_set(*_: Any, **__: Any) -> SeenSet:
        return SeenSet((seen,), (), ())

    async def photo_matte(*_: Any) -> Any:
        return None

    async def frame_photo(*_: Any) -> Any:
        return SimpleNamespace(reference=seen.pixels)

    async def nothing_made(*_: Any) -> list[Any]:
        return []

    def drafting(_engine: Any, _costs: Any, bench: Any, _framed: Any, wish: Wish, *_: Any) -> Any:
        caught.append(Handed(bench.template, wish))
        raise Drafted

    monkeypatch.setattr(create.capture, "examine_set", examine_set)
    monkeypatch.setattr(create.frame, "frame_photo", frame_photo)
    monkeypatch.setattr(create.frame, "photo_matte", photo_matte)
    monkeypatch.setattr(create.Bench, "make", nothing_made)
    monkeypatch.setattr(create, "Drafting", drafting)
    with pytest.raises(Drafted):
        await maker(workers).make(Call(Deadline.after(30)), request, STYLE, look)
    return caught[0]


async def test_a_callers_template_decides_and_the_photos_still_tell_the_second_recogniser(
    monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    known = Template(BEN, "first")
    request = HeadshotRequest((), OPTIONS, template=known)
    handed = await handed_to_the_draft(monkeypatch, workers, request)
    assert np.array_equal(handed.template.vector, BEN)
    assert handed.template.second is not None
    assert np.allclose(handed.template.second, BEN)


async def test_without_a_template_the_photos_say_who_the_person_is(
    monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    handed = await handed_to_the_draft(monkeypatch, workers, HeadshotRequest((), OPTIONS))
    assert np.allclose(handed.template.vector, ANN)


@pytest.mark.parametrize("in_team", [True, False])
async def test_people_who_are_seen_side_by_side_are_balanced_as_a_team(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, in_team: bool
) -> None:
    look = TeamLook().join("anna") if in_team else None
    handed = await handed_to_the_draft(monkeypatch, workers, HeadshotRequest((), OPTIONS), look)
    assert handed.wish.tone.balance_first == in_team
    assert (handed.wish.tone.white_balance == 1.0) == in_team


def finishing(made: Maker, effort: Effort, work: Ahead[Finished], call: Call) -> Finishing:
    wish = resolve(STYLE, OPTIONS, None)
    enlarging = Enlarging(made.engine, call, made.costs, ahead=False)
    return Finishing(made.engine, made.costs, wish, STYLE, 1, effort, None, False, enlarging, work)


async def finished(
    made: Maker, person: rendering.Person, ground: BackgroundSpec, effort: Effort
) -> Finished:
    call = Call(Deadline.after(30))
    async with Ahead[Finished]("finish") as work:
        return await finishing(made, effort, work, call).result(
            call, np.zeros((640, 640, 3), np.uint8), person, ground
        )


@pytest.mark.parametrize(
    ("profile", "source"),
    [
        ("compact", "algorithmicallyEnhanced"),
        ("studio", "compositeWithTrainedAlgorithmicMedia"),
    ],
)
async def test_a_file_of_a_generative_profile_says_so_before_its_own_background_too(
    workers: Workers, person: rendering.Person, profile: str, source: str
) -> None:
    effort = Effort(1, 4, upscaled=False)
    ((file,), _) = await finished(maker(workers, profile), person, BackgroundSpec("blur"), effort)
    assert read_metadata(file.data)["digital_source_type"] == source


async def test_the_time_of_many_files_is_booked_as_that_of_a_usual_set(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, person: rendering.Person
) -> None:
    times = iter([100.0, 108.0])
    monkeypatch.setattr(finishing_module, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    made, effort = maker(workers), Effort(1, 4, upscaled=False, files=4.0)
    await finished(made, person, BackgroundSpec("solid", colour="grey"), effort)
    assert made.costs.expect("finish_plain") == pytest.approx(2.0)


async def test_who_goes_away_stops_the_thread_that_writes_the_files(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, person: rendering.Person
) -> None:
    begun, cancelled, told = threading.Event(), threading.Event(), []

    def make_files(*_: Any, gone: Any, **__: Any) -> tuple[()]:
        told.append(gone())
        begun.set()
        cancelled.wait(10)
        told.append(gone())
        return ()

    monkeypatch.setattr(finishing_module.files, "make_files", make_files)
    ground, effort = BackgroundSpec("solid", colour="grey"), Effort(1, 4, upscaled=False)
    work = asyncio.ensure_future(finished(maker(workers), person, ground, effort))
    assert await asyncio.to_thread(begun.wait, 10)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    cancelled.set()
    workers.close()  # Waits for its thread.
    assert told == [False, True]


async def test_files_that_were_begun_while_the_draft_was_judged_are_written_once(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, person: rendering.Person
) -> None:
    written = []
    monkeypatch.setattr(
        finishing_module.files, "make_files", lambda *_, **__: written.append(1) or ()
    )
    ground, effort = BackgroundSpec("solid", colour="grey"), Effort(1, 4, upscaled=False)
    call, image = Call(Deadline.after(30)), np.zeros((640, 640, 3), np.uint8)
    async with Ahead[Finished]("finish") as work:
        finish = finishing(maker(workers), effort, work, call)
        await finish.begin(call, image, person, ground)
        await finish.result(call, image, person, ground)
        assert written == [1]
        other = replace(person)
        await finish.result(call, image, other, ground)
    assert written == [1, 1]


async def test_files_of_a_draft_that_did_not_pass_stop_being_written(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, person: rendering.Person
) -> None:
    begun, refused, told = threading.Event(), threading.Event(), []

    def make_files(*_: Any, gone: Any, **__: Any) -> tuple[()]:
        begun.set()
        refused.wait(10)
        told.append(gone())
        return ()

    monkeypatch.setattr(finishing_module.files, "make_files", make_files)
    ground, effort = BackgroundSpec("solid", colour="grey"), Effort(1, 4, upscaled=False)
    call, image = Call(Deadline.after(30)), np.zeros((640, 640, 3), np.uint8)
    with pytest.raises(ValueError, match="another person"):
        async with Ahead[Finished]("finish") as work:
            await finishing(maker(workers), effort, work, call).begin(call, image, person, ground)
            assert await asyncio.to_thread(begun.wait, 10)
            raise ValueError("another person")
    refused.set()
    workers.close()
    assert told == [True]
