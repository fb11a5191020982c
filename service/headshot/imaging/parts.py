"""Work on a picture in parts that write to different pixels, and so may be done side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
Part = Callable[[], None]
SideBySide = Callable[[Sequence[Part]], None]
"""Does every part and returns when all are done; raises what a part raised."""


def one_by_one(parts: Sequence[Part]) -> None:
    """Do the parts in order, on the caller's thread."""
    for part in parts:
        part()


def both(side_by_side: SideBySide, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Return what two functions return that do not need each other."""
    one: list[A] = []
    other: list[B] = []
    side_by_side([lambda: one.append(first()), lambda: other.append(second())])
    return one[0], other[0]
