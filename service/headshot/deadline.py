"""One deadline for a whole request, on the monotonic clock."""

from __future__ import annotations

import time
from dataclasses import dataclass

from headshot.errors import DeadlineError


@dataclass(frozen=True)
class Deadline:
    """A point on `time.monotonic()` by which the caller wants the answer.

    Attributes:
        at: seconds on the monotonic clock.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return seconds left; never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Tell whether the deadline has passed."""
        return time.monotonic() >= self.at

    def earlier(self, seconds: float) -> Deadline:
        """Return the sooner of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def check(self, stage: str) -> None:
        """Raise DeadlineError, naming the stage, when no time is left."""
        if self.expired:
            raise DeadlineError(
                f"the deadline passed before {stage}; send a later deadline or ask for less",
                metadata={"stage": stage},
            )
