"""What the members of a team share, so that their headshots belong together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from headshot.imaging.background import BackgroundSpec


class TeamLook:
    """The look of one team call.

    Composition and retouch come from the style and are the same for everybody anyhow; the tone
    targets are `imaging.tone.for_team`. What is left is a background that the style chooses by the
    face: the first member of the call decides, in the order of the items and not of the clock, so
    that the same call gives the same pictures. Members after it wait for that choice.
    """

    def __init__(self) -> None:
        self._background: BackgroundSpec | None = None
        self._decided: list[asyncio.Event] = []

    def join(self) -> TeamMember:
        """Return the place of the next item."""
        self._decided.append(asyncio.Event())
        return TeamMember(self, len(self._decided) - 1)

    async def decide(self, place: int, own: BackgroundSpec) -> BackgroundSpec:
        """Return the team's background: that of the first place that did not leave without one."""
        for earlier in self._decided[:place]:
            if self._background is not None:
                break
            await earlier.wait()
        if self._background is None:
            self._background = own
        self._decided[place].set()
        return self._background

    def leave(self, place: int) -> None:
        """Let the next place decide, where this one has not."""
        self._decided[place].set()


@dataclass(frozen=True)
class TeamMember:
    """One item's part in a team; `leave` must be called when the item ends, however it ends."""

    look: TeamLook
    place: int

    async def background(self, own: BackgroundSpec) -> BackgroundSpec:
        """Return the team's background.

        Args:
            own: the concrete one that would suit this member best.
        """
        return await self.look.decide(self.place, own)

    def leave(self) -> None:
        """Say that this item has ended."""
        self.look.leave(self.place)
