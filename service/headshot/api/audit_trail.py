"""One audit record for each piece of work on a person, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headshot.errors import HeadshotError
from headshot.pipeline.call import Call
from headshot.telemetry import context as request_context
from headshot.telemetry.audit import AuditLog, AuditRecord


@dataclass
class Entry:
    """Facts that become known while the work is done."""

    facts: dict[str, str | int | bool] = field(default_factory=dict)

    def style(self, style_id: str, version: str) -> None:
        """Note which style was used."""
        self.facts["style"] = style_id
        self.facts["style_version"] = version

    def recogniser(self, name: str) -> None:
        """Note which recogniser told who it is."""
        self.facts["recogniser"] = name

    def headshots(self, count: int, *, unverified: bool) -> None:
        """Note how many pictures of the person were returned and whether an unverified one left."""
        self.facts["headshots"] = count
        self.facts["unverified"] = unverified


class AuditTrail:
    """Writes audit records; does nothing where no log is configured."""

    def __init__(self, log: AuditLog | None) -> None:
        self._log = log

    @asynccontextmanager
    async def record(
        self, method: str, call: Call, consent: str, photos: int = 0
    ) -> AsyncIterator[Entry]:
        """Append a record when the work ends; its outcome is OK or the error's reason.

        The record is written on a thread, since the disk may be slow, and also when the caller
        goes away meanwhile.
        """
        entry = Entry()
        outcome = "OK"
        try:
            yield entry
        except HeadshotError as error:
            outcome = error.reason
            raise
        except (asyncio.CancelledError, GeneratorExit):
            # What runs into the caller's deadline is cancelled, too.
            outcome = "DEADLINE_EXCEEDED" if call.deadline.expired else "CANCELLED"
            raise
        except Exception:
            outcome = "INTERNAL"
            raise
        finally:
            await self._append(method, call, consent, photos, outcome, entry)

    async def _append(
        self, method: str, call: Call, consent: str, photos: int, outcome: str, entry: Entry
    ) -> None:
        if self._log is None:
            return
        current = request_context.current()
        record = AuditRecord(
            request_id=call.request_id,
            tenant=current.tenant if current else request_context.ANONYMOUS,
            credential=current.credential if current else "",
            method=f"headshot.v1.HeadshotService/{method}",
            outcome=outcome,
            consent_reference=consent,
            photos=photos,
            **entry.facts,  # type: ignore[arg-type]
        )
        await asyncio.shield(asyncio.to_thread(self._log.append, record))
