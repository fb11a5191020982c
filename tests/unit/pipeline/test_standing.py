"""A team is compared on a thread: the event loop has other callers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from headshot.deadline import Deadline
from headshot.imaging.quality.team import MemberLook, TeamReport, compare_team
from headshot.pipeline import create
from headshot.pipeline.call import Call
from headshot.pipeline.create import Maker
from headshot.pipeline.team import TeamLook
from headshot.pipeline.workers import Workers

LOOK = MemberLook(0.34, 0.22, (53.6, 0.0, 0.0), 6500)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1)
    yield made
    made.close()


async def test_the_members_of_a_team_are_compared_on_a_thread(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def compare(members: dict[str, MemberLook]) -> TeamReport:
        threads.append(threading.current_thread())
        return compare_team(members)

    monkeypatch.setattr(create.rendering, "look_in_team", lambda *_: LOOK)
    monkeypatch.setattr(create, "compare_team", compare)
    maker = cast("Any", SimpleNamespace(engine=SimpleNamespace(workers=workers)))
    draft = cast("Any", SimpleNamespace(person=None, square=None, crop=None))
    call = Call(Deadline.after(30))
    report = await Maker._standing(maker, call, draft, TeamLook().join("anna"))
    assert (report.members, report.consistent) == (1, True)
    assert threads
    assert threading.current_thread() not in threads
