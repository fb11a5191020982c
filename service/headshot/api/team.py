"""CreateHeadshots: a team's items side by side, bounded, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from headshot.api import parse, present, status
from headshot.api.audit_trail import AuditTrail
from headshot.api.session import Context, Sessions
from headshot.api.templates import Templates
from headshot.api.validation import validate
from headshot.errors import FieldViolation, InvalidRequestError
from headshot.pipeline.requests import HeadshotOptions, HeadshotRequest
from headshot.pipeline.service import Pipeline
from headshot.pipeline.team import TeamLook
from headshot.telemetry import context as request_context
from headshot.telemetry.context import Priority
from headshot.v1 import headshot_service_pb2 as pb

# Items of one call that are worked on at the same time; reading stops while so many are open, and
# gRPC's flow control then stops the sender.
_OPEN_ITEMS = 4


class TeamRpc:
    """Serves the bidirectional call."""

    def __init__(
        self, pipeline: Pipeline, sessions: Sessions, templates: Templates, audit: AuditTrail
    ) -> None:
        self._pipeline = pipeline
        self._sessions = sessions
        self._templates = templates
        self._audit = audit

    async def serve(
        self, requests: AsyncIterator[pb.CreateHeadshotsRequest], context: Context
    ) -> AsyncIterator[pb.CreateHeadshotsResponse]:
        """Yield each item's outcome as it ends."""
        settings = await self._settings(requests)
        look = TeamLook(self._pipeline.style(parse.options(settings.options)))
        done: asyncio.Queue[pb.CreateHeadshotsResponse | BaseException | None] = asyncio.Queue()
        reader = asyncio.ensure_future(self._read(requests, context, settings, look, done))
        try:
            while (outcome := await done.get()) is not None:
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    async def _settings(
        self, requests: AsyncIterator[pb.CreateHeadshotsRequest]
    ) -> pb.TeamSettings:
        """Return the settings of the first message."""
        async for message in requests:
            validate(message)
            if message.WhichOneof("message") == "settings":
                return message.settings
            break
        raise InvalidRequestError(
            "the first message must carry the team's settings",
            violations=[FieldViolation("settings", "is required in the first message")],
        )

    async def _read(
        self,
        requests: AsyncIterator[pb.CreateHeadshotsRequest],
        context: Context,
        settings: pb.TeamSettings,
        look: TeamLook,
        done: asyncio.Queue[pb.CreateHeadshotsResponse | BaseException | None],
    ) -> None:
        """Start an item for each message, never more than the limit at once."""
        slots = asyncio.Semaphore(_OPEN_ITEMS)
        seen: set[str] = set()
        options = parse.options(settings.options)

        async def one(item: pb.TeamItem) -> None:
            try:
                done.put_nowait(await self._item(item, context, settings, options, look))
            finally:
                slots.release()

        try:
            async with asyncio.TaskGroup() as group:
                await slots.acquire()
                async for message in requests:
                    if message.WhichOneof("message") == "settings":
                        raise InvalidRequestError("settings may only come first")
                    if message.item.item_id in seen:
                        raise InvalidRequestError(
                            "item_id must be unique in a call",
                            violations=[FieldViolation("item.item_id", "was used before")],
                        )
                    seen.add(message.item.item_id)
                    group.create_task(one(message.item))
                    await slots.acquire()
        except BaseExceptionGroup as failures:
            done.put_nowait(failures.exceptions[0])
        done.put_nowait(None)

    async def _item(
        self,
        item: pb.TeamItem,
        context: Context,
        settings: pb.TeamSettings,
        options: HeadshotOptions,
        look: TeamLook,
    ) -> pb.CreateHeadshotsResponse:
        """Return one item's result, or its error."""
        consent = item.consent_reference or settings.consent_reference
        current = request_context.current()
        identifier = f"{current.request_id if current else 'team'}.{item.item_id}"[:64]
        try:
            async with self._sessions.work(
                context, item, identifier, current, Priority.BATCH, float(options.candidates)
            ) as call:
                self._sessions.check_consent(consent)
                with self._audit.record(
                    "CreateHeadshots", call, consent, len(item.photos)
                ) as entry:
                    work = HeadshotRequest(
                        parse.photos(item.photos),
                        options,
                        self._templates.open(item.identity_template),
                    )
                    result = await self._pipeline.create(call, work, look)
                    entry.style(result.style_id, result.style_version)
                    entry.headshots(1, unverified=not result.verification.same_person)
                    message = await self._pipeline.off_loop(call, present.headshot, result, call)
            return pb.CreateHeadshotsResponse(item_id=item.item_id, result=message)
        except Exception as error:
            return pb.CreateHeadshotsResponse(
                item_id=item.item_id, error=status.to_status(error, identifier)
            )
