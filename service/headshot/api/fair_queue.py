"""Weighted fair queueing across tenants, and a token bucket.

Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996): an entry's virtual start is the later
of the queue's virtual time and its tenant's last virtual finish; its finish is start plus cost
divided by weight; the entry with the earliest start goes first. Over any busy time each tenant
gets service in proportion to its weight, however many requests another one sends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(order=True)
class _Entry(Generic[T]):
    start: float
    order: int
    tenant: str = field(compare=False)
    share: float = field(compare=False)
    item: T = field(compare=False)


class FairQueue(Generic[T]):
    """Entries of many tenants; the next one is fair by weight, first come first within a tenant.

    Searches are linear: the queue is bounded to some tens or hundreds of entries.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry[T]] = []
        self._virtual_time = 0.0
        self._finish: dict[str, float] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        """Iterate in the order of service, without regard to eligibility."""
        return (entry.item for entry in sorted(self._entries))

    def push(self, tenant: str, weight: float, cost: float, item: T) -> None:
        """Append an item of a tenant."""
        start = self._charge(tenant, weight, cost)
        self._order += 1
        self._entries.append(_Entry(start, self._order, tenant, cost / weight, item))

    def charge(self, tenant: str, weight: float, cost: float) -> None:
        """Account for an item that is served at once, without waiting here."""
        self._virtual_time = max(self._virtual_time, self._charge(tenant, weight, cost))

    def ahead(self, tenant: str) -> Iterator[T]:
        """Iterate over the entries that would be served before a new one of `tenant`."""
        start = self._start(tenant)
        return (entry.item for entry in self._entries if entry.start <= start)

    def peek(self, eligible: Callable[[T], bool]) -> T | None:
        """Return the eligible item that goes next, or None."""
        found = min((entry for entry in self._entries if eligible(entry.item)), default=None)
        return None if found is None else found.item

    def take(self, item: T) -> None:
        """Remove an item that is served now."""
        for index, entry in enumerate(self._entries):
            if entry.item is item:
                self._virtual_time = max(self._virtual_time, entry.start)
                del self._entries[index]
                break
        self._forget_idle()

    def drop(self, item: T) -> bool:
        """Remove an item that is not served (it expired or went away); False when not there.

        Its tenant gets back what it was charged: those behind it move up, and the tenant's next.
        """
        for index, entry in enumerate(self._entries):
            if entry.item is item:
                del self._entries[index]
                for other in self._entries:
                    if other.tenant == entry.tenant and other.order > entry.order:
                        other.start -= entry.share
                self._finish[entry.tenant] -= entry.share
                self._forget_idle()
                return True
        return False

    def last(self) -> T | None:
        """Return the item that would go last: the one to give up when room is needed."""
        return max(self._entries).item if self._entries else None

    def _start(self, tenant: str) -> float:
        return max(self._virtual_time, self._finish.get(tenant, 0.0))

    def _charge(self, tenant: str, weight: float, cost: float) -> float:
        start = self._start(tenant)
        self._finish[tenant] = start + cost / weight
        return start

    def _forget_idle(self) -> None:
        if not self._entries:
            self._finish = {
                tenant: finish
                for tenant, finish in self._finish.items()
                if finish > self._virtual_time
            }


class TokenBucket:
    """A rate with a burst.

    Args:
        rate: tokens a second; 0 is without limit.
        burst: tokens it holds when full, and at the start.
        now: seconds on the clock of the later calls.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def take(self, tokens: float, now: float) -> float:
        """Take tokens and return 0, or take none and return seconds until they are there.

        More tokens than the burst are taken from a full bucket, which then owes the rest.
        """
        if self.rate <= 0:
            return 0.0
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        needed = min(tokens, self.burst)
        if self._tokens + 1e-9 < needed:
            return (needed - self._tokens) / self.rate
        self._tokens -= tokens
        return 0.0

    def give_back(self, tokens: float) -> None:
        """Return tokens of work that was refused for another reason; `take` keeps the burst."""
        self._tokens += tokens
