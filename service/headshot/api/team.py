"""CreateHeadshots: a team's items side by side, bounded, each with an outcome of its own."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from headshot.api import costs, parse, present, status
from headshot.api.audit_trail import AuditTrail
from headshot.api.incoming import Incoming
from headshot.api.session import Context, Sessions
from headshot.api.templates import Templates
from headshot.api.validation import validate
from headshot.deadline import Deadline
from headshot.errors import (
    FieldViolation,
    InvalidRequestError,
    OverloadedError,
    StoppingError,
    within,
)
from headshot.pipeline.call import Call
from headshot.pipeline.requests import HeadshotOptions, HeadshotRequest
from headshot.pipeline.service import Pipeline
from headshot.pipeline.team import TeamLook, TeamMember
from headshot.telemetry import context as request_context
from headshot.telemetry.context import Priority
from headshot.v1 import headshot_service_pb2 as pb

# Items of one call that are open at the same time: worked on, or finished and not yet taken by the
# caller. Reading stops while so many are open, and gRPC's flow control then stops the sender.
_OPEN_ITEMS = 4
# What file names keep of an id (`imaging.filenames`).
_MOST_ID = 48
# How long a caller may take for its settings, and to send another item while none is open.
_SETTINGS_S = 60.0
_IDLE_S = 600.0


@dataclass
class _Desk:
    """Where the reader and the items of one call leave their outcomes; None is the last."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_OPEN_ITEMS))
    outcomes: asyncio.Queue[pb.CreateHeadshotsResponse | Exception | None] = field(
        default_factory=asyncio.Queue
    )
    _open: int = 0
    _quiet_since: float = field(default_factory=time.monotonic)

    def opened(self) -> None:
        """Note that an item came."""
        self._open += 1

    def taken(self) -> None:
        """Note that the caller took an item's outcome."""
        self._open -= 1
        self._quiet_since = time.monotonic()
        self.slots.release()

    def quiet_s(self) -> float:
        """Return for how many seconds no item has been open."""
        return 0.0 if self._open else time.monotonic() - self._quiet_since


class TeamRpc:
    """Serves the bidirectional call."""

    def __init__(
        self,
        pipeline: Pipeline,
        sessions: Sessions,
        templates: Templates,
        audit: AuditTrail,
        draining: asyncio.Event,
    ) -> None:
        self._pipeline = pipeline
        self._sessions = sessions
        self._templates = templates
        self._audit = audit
        self._draining = draining

    async def serve(
        self, requests: AsyncIterator[pb.CreateHeadshotsRequest], context: Context
    ) -> AsyncGenerator[pb.CreateHeadshotsResponse, None]:
        """Yield each item's outcome as it ends."""
        incoming = Incoming(requests, self._draining)
        desk = _Desk()
        settings = await self._settings(incoming, desk)
        # What nobody's headshot could be made with fails the call, before photos are sent.
        with within("settings"):
            await self._pipeline.check_options(
                self._sessions.deadline(context), parse.options(settings.options)
            )
        look = TeamLook()
        reader = asyncio.ensure_future(self._read(incoming, context, settings, look, desk))
        try:
            while (outcome := await desk.outcomes.get()) is not None:
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome
                desk.taken()
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    async def _settings(
        self, incoming: Incoming[pb.CreateHeadshotsRequest], desk: _Desk
    ) -> pb.TeamSettings:
        """Return the settings of the first message."""
        message = await incoming.next(_SETTINGS_S, desk.quiet_s)
        if message is not None:
            validate(message)
            if message.WhichOneof("message") == "settings":
                return message.settings
        raise InvalidRequestError(
            "the first message must carry the team's settings",
            violations=[FieldViolation("settings", "is required in the first message")],
        )

    async def _read(
        self,
        incoming: Incoming[pb.CreateHeadshotsRequest],
        context: Context,
        settings: pb.TeamSettings,
        look: TeamLook,
        desk: _Desk,
    ) -> None:
        """Start an item for each message, never more than the limit at once.

        What is wrong with the stream itself ends the call, after the items that it has begun.
        """
        seen: set[str] = set()
        # A call of many people has no events to send them with.
        options = replace(parse.options(settings.options), previews=False)

        current = request_context.current()
        call_id = current.request_id if current else "team"

        async def one(item: pb.TeamItem, identifier: str, member: TeamMember) -> None:
            try:
                outcome = await self._item(item, identifier, context, settings, options, member)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Nobody cancelled this item: every item has an outcome, this one too.
                outcome = self._failed(item, identifier, error)
            except Exception as error:
                outcome = self._failed(item, identifier, error)
            finally:
                member.leave()
            self._put(desk, outcome)

        wrong: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    place = 0
                    await desk.slots.acquire()
                    while (message := await incoming.next(_IDLE_S, desk.quiet_s)) is not None:
                        if message.WhichOneof("message") == "settings":
                            raise InvalidRequestError(
                                "settings may only come first",
                                violations=[FieldViolation("settings", "is in a further message")],
                            )
                        desk.opened()
                        item, identifier = message.item, _identifier(call_id, place)
                        if item.item_id in seen:
                            self._put(desk, _used_before(item.item_id, identifier))
                        else:
                            seen.add(item.item_id)
                            group.create_task(one(item, identifier, look.join(item.item_id)))
                        place += 1
                        await desk.slots.acquire()
                except Exception as error:
                    wrong = error
        except ExceptionGroup as failures:  # of telling an item's failure; the call has an end
            wrong = failures
        finally:
            desk.outcomes.put_nowait(wrong)

    def _put(self, desk: _Desk, outcome: pb.CreateHeadshotsResponse) -> None:
        """Count an item's outcome and leave it for the caller."""
        self._pipeline.metrics.team_item(outcome.error.code)
        desk.outcomes.put_nowait(outcome)

    async def _item(
        self,
        item: pb.TeamItem,
        identifier: str,
        context: Context,
        settings: pb.TeamSettings,
        options: HeadshotOptions,
        member: TeamMember,
    ) -> pb.CreateHeadshotsResponse:
        """Return one item's result."""
        consent = item.consent_reference or settings.consent_reference
        validate(item)
        cost = costs.headshot(settings.options, len(item.photos))
        async with self._admitted(context, item, identifier, cost) as call:
            self._sessions.check_consent(consent)
            async with self._audit.record(
                "CreateHeadshots", call, consent, len(item.photos)
            ) as entry:
                template, _ = self._templates.open(item.identity_template)
                work = HeadshotRequest(parse.photos(item.photos), options, template)
                result = await self._pipeline.create(call, work, member)
                entry.style(result.style_id, result.style_version)
                entry.recogniser(result.verification.recogniser)
                entry.headshots(1, unverified=not result.verification.same_person)
                message = await self._pipeline.off_loop(call, present.headshot, result, call)
        return pb.CreateHeadshotsResponse(
            item_id=item.item_id, result=message, team=present.team(result.team)
        )

    @asynccontextmanager
    async def _admitted(
        self, context: Context, item: pb.TeamItem, identifier: str, cost: costs.Cost
    ) -> AsyncIterator[Call]:
        """Yield the item's call; who is refused for load asks again when that may help.

        An item that is answered at once with "too many" makes room for the next one, which is
        refused, too: a busy moment would lose a whole team. One that waits holds its sender up.

        Raises:
            OverloadedError: it cannot be before the deadline.
            StoppingError: the service stops.
        """
        # Looked at once: for a caller that set none it would begin anew with each attempt.
        deadline = self._sessions.deadline(context)
        while True:
            async with AsyncExitStack() as stack:
                work = self._sessions.work(
                    context, item, identifier, request_context.current(), Priority.BATCH, cost
                )
                try:
                    call = await stack.enter_async_context(work)
                except OverloadedError as error:
                    await self._pause(error, deadline)
                    continue
                yield call
                return

    async def _pause(self, refused: OverloadedError, deadline: Deadline) -> None:
        """Wait as long as a refusal asks for; raise it where that is not before the deadline."""
        pause_s = refused.retry_after_s
        if pause_s is None or pause_s >= deadline.remaining():
            raise refused
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._draining.wait()
                raise StoppingError("the service stops; send this item in a new call")

    def _failed(
        self, item: pb.TeamItem, identifier: str, error: BaseException
    ) -> pb.CreateHeadshotsResponse:
        """Return the outcome of an item that failed; operators hear of it as of a failed call."""
        self._sessions.note_failure(error, identifier)
        return pb.CreateHeadshotsResponse(
            item_id=item.item_id, error=status.to_status(error, identifier)
        )


def _identifier(call_id: str, place: int) -> str:
    """Return an id of at most 48 characters for one item of a call, counted from 0.

    It goes into logs, traces and the audit log: `item_id` may be a person's name, and stays out.
    """
    whole = f"{call_id}.{place}"
    if len(whole) <= _MOST_ID:
        return whole
    return f"{whole[: _MOST_ID - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _used_before(item_id: str, identifier: str) -> pb.CreateHeadshotsResponse:
    """Return the outcome of an item whose name is taken; the first of that name goes on."""
    error = InvalidRequestError(
        "item_id must be unique in a call",
        reason="ITEM_ID_USED",
        violations=[FieldViolation("item_id", "was used before")],
    )
    return pb.CreateHeadshotsResponse(item_id=item_id, error=status.to_status(error, identifier))
