"""What the members of a team share, so that their headshots belong together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from headshot.imaging.background import BackgroundChoice
from headshot.pipeline.styles import Style


@dataclass
class TeamLook:
    """The look of one team call.

    The composition, the white balance target and the retouch come from the style and are the same
    for everybody anyhow. A background that the style chooses by the face is chosen once, by the
    first member whose headshot is composed, and kept.

    Attributes:
        style: the style of all items.
    """

    style: Style
    _background: BackgroundChoice | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def background(self, choose: Callable[[], BackgroundChoice]) -> BackgroundChoice:
        """Return the team's background, chosen by `choose` the first time."""
        async with self._lock:
            if self._background is None:
                self._background = choose()
            return self._background
