"""What the members of a team share, so that their headshots belong together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from headshot.imaging.background import BackgroundSpec
from headshot.imaging.framing import FramingSpec, PortraitFrame
from headshot.imaging.quality.team import MemberLook

T = TypeVar("T")

_ROOM = 1.05
"""A head this much larger than the style asks for means that the photo has no room for its crop."""

_HOLD = 20.0
"""Side by side, a head 3% larger is seen before a shoulder a little off the middle."""

MOST_COMPARED = 200
"""Of a larger team each report is of the latest so many: comparing grows with their square."""


@dataclass(frozen=True)
class Composition:
    """Where the head is in the square, in fractions of its side.

    Attributes:
        eye_line: eyes from the top.
        head_height: crown to chin.
        top_margin: least room above the hair; None leaves it to the style.
    """

    eye_line: float
    head_height: float
    top_margin: float | None = None

    @classmethod
    def of(cls, frame: PortraitFrame) -> Composition:
        """Return what a team whose first photo came to this frame shall have: one of two.

        The style's own, or the close portrait. A crop between both, as close as that one photo
        happens to need, leaves out more of the others and is another one for the next new hire.
        """
        wanted = frame.spec
        if frame.face.head_height / frame.canvas > _ROOM * wanted.head_height:
            return CLOSE_PORTRAIT
        return cls(wanted.eye_line, wanted.head_height)

    def asked_of(self, spec: FramingSpec) -> FramingSpec:
        """Return the style's framing with this composition in place of the ideal one."""
        low, high = spec.eye_line_range
        margin = spec.top_margin if self.top_margin is None else self.top_margin
        return replace(
            spec,
            eye_line=min(max(self.eye_line, low), high),
            head_height=self.head_height,
            top_margin=min(spec.top_margin, margin),
            hold=_HOLD,
        )


CLOSE_PORTRAIT = Composition(eye_line=0.47, head_height=0.72, top_margin=0.02)
"""The closest crop that still shows the tallest hair whole: 2.2 face units above the eyes, of 3.53
between crown and chin, and 2% of the side above it. What it leaves below the chin is less than any
other crop needs, so that the most photos can give it."""


class _Choice(Generic[T]):
    """One thing that the first member decides, in the order of the items and not of the clock."""

    def __init__(self) -> None:
        self._chosen: T | None = None
        self._decided: list[asyncio.Event] = []

    def join(self) -> None:
        self._decided.append(asyncio.Event())

    async def decide(self, place: int, own: T) -> T:
        """Return the choice of the first place that did not leave without one."""
        for earlier in self._decided[:place]:
            if self._chosen is not None:
                break
            await earlier.wait()
        if self._chosen is None:
            self._chosen = own
        self._decided[place].set()
        return self._chosen

    def leave(self, place: int) -> None:
        self._decided[place].set()


class TeamLook:
    """The look of one team call.

    Retouch comes from the style and is the same for everybody anyhow; the tone targets are
    `imaging.tone.for_team`. Two things depend on the photos: a background that the style chooses by
    the face, and the crop: the style's, or the close portrait where the first photo is too tight
    for it. The first member decides both, so that the same call gives the same pictures; members
    after it wait for that. A photo that cannot follow stays apart, and `TeamReport` names it.
    """

    def __init__(self) -> None:
        self._background = _Choice[BackgroundSpec]()
        self._composition = _Choice[Composition]()
        self._finished: dict[str, MemberLook] = {}
        self._places = 0

    def join(self, name: str = "") -> TeamMember:
        """Return the place of the next item; `name` is how reports call it."""
        self._background.join()
        self._composition.join()
        self._places += 1
        return TeamMember(self, self._places - 1, name or str(self._places))

    async def background(self, place: int, own: BackgroundSpec) -> BackgroundSpec:
        """Return the team's background."""
        return await self._background.decide(place, own)

    async def composition(self, place: int, own: Composition) -> Composition:
        """Return the team's composition."""
        return await self._composition.decide(place, own)

    def finish(self, name: str, look: MemberLook) -> Mapping[str, MemberLook]:
        """Add a finished member; return the latest `MOST_COMPARED` that have finished."""
        self._finished[name] = look
        if len(self._finished) > MOST_COMPARED:
            del self._finished[next(iter(self._finished))]
        return dict(self._finished)

    def leave(self, place: int) -> None:
        """Let the next place decide, where this one has not."""
        self._background.leave(place)
        self._composition.leave(place)


@dataclass(frozen=True)
class TeamMember:
    """One item's part in a team; `leave` must be called when the item ends, however it ends."""

    look: TeamLook
    place: int
    name: str

    async def background(self, own: BackgroundSpec) -> BackgroundSpec:
        """Return the team's background.

        Args:
            own: the concrete one that would suit this member best.
        """
        return await self.look.background(self.place, own)

    async def composition(self, own: Composition) -> Composition:
        """Return the team's composition.

        Args:
            own: what this member's photo gives by the style alone.
        """
        return await self.look.composition(self.place, own)

    def finish(self, look: MemberLook) -> Mapping[str, MemberLook]:
        """Return the looks of the latest members that have finished, this one with them.

        A copy: comparing them is for a thread.
        """
        return self.look.finish(self.name, look)

    def leave(self) -> None:
        """Say that this item has ended."""
        self.look.leave(self.place)
