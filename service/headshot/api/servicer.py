"""HeadshotService of headshot.v1: thin methods that parse, call the pipeline and present."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from headshot import __version__
from headshot.api import costs, parse, present
from headshot.api.audit_trail import AuditTrail
from headshot.api.session import Context, Sessions
from headshot.api.streams import with_events
from headshot.api.team import TeamRpc
from headshot.api.templates import Templates
from headshot.config import Settings
from headshot.imaging.encode import EncodeSpec, encode
from headshot.imaging.renditions import MAX_SIDE, PRESETS
from headshot.pipeline.call import Event, ProgressEvent
from headshot.pipeline.requests import HeadshotRequest
from headshot.pipeline.service import Pipeline
from headshot.telemetry.context import Priority
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc, style_pb2

_PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: None,
    pb.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    pb.PRIORITY_BATCH: Priority.BATCH,
}


class HeadshotServicer(headshot_service_pb2_grpc.HeadshotServiceServicer):
    """The RPCs. No image or model code lives here."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        sessions: Sessions,
        templates: Templates,
        audit: AuditTrail,
        draining: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._sessions = sessions
        self._templates = templates
        self._audit = audit
        self._team = TeamRpc(pipeline, sessions, templates, audit, draining)

    async def EncodeIdentity(  # noqa: N802  (gRPC's name)
        self, request: pb.EncodeIdentityRequest, context: Context
    ) -> pb.EncodeIdentityResponse:
        """Make a sealed identity template from photos."""
        async with self._sessions.open(
            context,
            request,
            request_id=request.request_id,
            cost=costs.photos(len(request.photos)),
        ) as call:
            self._sessions.check_consent(request.consent_reference)
            async with self._audit.record(
                "EncodeIdentity", call, request.consent_reference, len(request.photos)
            ) as entry:
                result = await self._pipeline.encode_identity(call, parse.photos(request.photos))
                entry.recogniser(result.template.recogniser)
                token, expires = self._templates.seal(
                    result.template,
                    request.template_ttl_seconds,
                    request.consent_reference,
                    sum(item.used for item in result.photos),
                )
            return pb.EncodeIdentityResponse(
                identity_template=token,
                expires_at_unix_seconds=expires,
                recogniser=result.template.recogniser,
                photos=[present.photo(item) for item in result.photos],
                advice=[present.advice(item) for item in result.advice],
                timings=present.timings(call),
                request_id=call.request_id,
            )

    async def Denoise(  # noqa: N802
        self, request: pb.DenoiseRequest, context: Context
    ) -> AsyncIterator[pb.DenoiseResponse]:
        """Frame and restore a photo, step by step."""
        running = with_events(lambda emit: self._denoise(request, context, emit))
        async with aclosing(running) as items:
            async for item in items:
                if isinstance(item, tuple):
                    yield item[0]
                elif isinstance(item, ProgressEvent):
                    yield pb.DenoiseResponse(progress=present.progress(item))

    async def _denoise(
        self, request: pb.DenoiseRequest, context: Context, emit: Callable[[Event], None]
    ) -> pb.DenoiseResponse:
        async with self._sessions.open(
            context,
            request,
            request_id=request.request_id,
            cost=costs.denoise(request),
        ) as call:
            call.emit = emit
            template, consent = self._templates.open(request.identity_template)
            # The request has no reference of its own: the template brings the one it was made with.
            self._sessions.check_consent(consent)
            plan = self._pipeline.plan(
                request.steps,
                request.strength if request.HasField("strength") else None,
                request.seed,
                previews=request.previews,
            )
            # The record before the result: nothing leaves that could not be recorded.
            async with self._audit.record("Denoise", call, consent, 1) as entry:
                result = await self._pipeline.denoise(
                    call,
                    parse.photo(request.photo),
                    template,
                    request.style_id,
                    plan,
                    request.candidates or 1,
                )
                entry.style(result.style_id, result.style_version)
                entry.headshots(len(result.candidates), unverified=True)
                message = await self._pipeline.off_loop(call, present.denoised, result, call)
            return pb.DenoiseResponse(result=message)

    async def Matte(  # noqa: N802
        self, request: pb.MatteRequest, context: Context
    ) -> pb.MatteResponse:
        """Cut the person out."""
        async with self._sessions.open(
            context, request, request_id=request.request_id, cost=costs.WHOLE_PICTURE
        ) as call:
            result = await self._pipeline.matte(
                call, parse.photo(request.photo), cutout=request.cutout
            )
            return await self._pipeline.off_loop(call, present.matte, result, call)

    async def Upscale(  # noqa: N802
        self, request: pb.UpscaleRequest, context: Context
    ) -> pb.UpscaleResponse:
        """Enlarge a picture four times."""
        async with self._sessions.open(
            context, request, request_id=request.request_id, cost=costs.WHOLE_PICTURE
        ) as call:
            image = await self._pipeline.upscale(call, parse.photo(request.photo))
            spec = EncodeSpec(format=parse.image_format(request.format, "png"))
            data = await self._pipeline.off_loop(call, encode, image, spec)
            return pb.UpscaleResponse(
                image=data,
                width=image.shape[1],
                height=image.shape[0],
                timings=present.timings(call),
                request_id=call.request_id,
            )

    async def Verify(  # noqa: N802
        self, request: pb.VerifyRequest, context: Context
    ) -> pb.VerifyResponse:
        """Say whether a picture shows the person."""
        async with self._sessions.open(
            context,
            request,
            request_id=request.request_id,
            cost=costs.photos(1 + len(request.references)),
        ) as call:
            template, consent = self._templates.open(request.identity_template)
            self._sessions.check_consent(consent)
            async with self._audit.record(
                "Verify", call, consent, 1 + len(request.references)
            ) as entry:
                result = await self._pipeline.verify(
                    call,
                    parse.photo(request.photo),
                    parse.photos(request.references, "references"),
                    template,
                )
                entry.recogniser(result.verification.recogniser)
            return pb.VerifyResponse(
                verification=present.verification(result.verification),
                photo=present.photo(result.photo),
                references=[present.photo(item) for item in result.references],
                timings=present.timings(call),
                request_id=call.request_id,
            )

    async def CreateHeadshot(  # noqa: N802
        self, request: pb.CreateHeadshotRequest, context: Context
    ) -> AsyncIterator[pb.CreateHeadshotResponse]:
        """Make a verified headshot."""
        running = with_events(lambda emit: self._create(request, context, emit))
        async with aclosing(running) as items:
            async for item in items:
                if not isinstance(item, tuple):
                    yield present.event(item)
                elif item[0] is not None:
                    yield item[0]

    async def _create(
        self, request: pb.CreateHeadshotRequest, context: Context, emit: Callable[[Event], None]
    ) -> pb.CreateHeadshotResponse | None:
        """Return the result; None where the request was only to be checked."""
        async with self._sessions.open(
            context,
            request,
            request_id=request.request_id,
            priority=_PRIORITIES.get(request.priority),
            cost=(
                costs.photos(len(request.photos))
                if request.validate_only
                else costs.headshot(request.options, len(request.photos))
            ),
            kind="CheckHeadshotRequest" if request.validate_only else "",
        ) as call:
            self._sessions.check_consent(request.consent_reference)
            # Only now: an enum's value is known to be one of those that parse knows.
            template, _ = self._templates.open(request.identity_template)
            work = HeadshotRequest(
                parse.photos(request.photos), parse.options(request.options), template
            )
            if request.validate_only:
                await self._pipeline.check(call, work)
                return None
            call.emit = emit
            async with self._audit.record(
                "CreateHeadshot", call, request.consent_reference, len(request.photos)
            ) as entry:
                result = await self._pipeline.create(call, work)
                entry.style(result.style_id, result.style_version)
                entry.recogniser(result.verification.recogniser)
                entry.headshots(1, unverified=not result.verification.same_person)
                message = await self._pipeline.off_loop(call, present.headshot, result, call)
            return pb.CreateHeadshotResponse(result=message)

    async def CreateHeadshots(  # noqa: N802
        self, requests: AsyncIterator[pb.CreateHeadshotsRequest], context: Context
    ) -> AsyncIterator[pb.CreateHeadshotsResponse]:
        """Make a team's headshots."""
        async with aclosing(self._team.serve(requests, context)) as responses:
            async for response in responses:
                yield response

    async def ListStyles(  # noqa: N802
        self, request: pb.ListStylesRequest, context: Context
    ) -> pb.ListStylesResponse:
        """List the style guides."""
        return pb.ListStylesResponse(
            styles=[
                style_pb2.StyleInfo(
                    style_id=style.id,
                    version=style.version,
                    description=style.description,
                    renditions=[item.name for item in style.renditions],
                    backgrounds=[str(option) for option in style.background.options],
                )
                for style in self._pipeline.styles
            ],
            default_style_id=self._settings.default_style,
        )

    async def GetServiceInfo(  # noqa: N802
        self, request: pb.GetServiceInfoRequest, context: Context
    ) -> pb.GetServiceInfoResponse:
        """Tell what is running."""
        models = self._pipeline.models
        response = pb.GetServiceInfoResponse(
            version=__version__,
            profile=models.profile,
            research_only=self._settings.research_mode,
            recogniser=models.encoder.recogniser,
            match_threshold=models.encoder.match_threshold,
            false_match_rate=models.encoder.fmr,
            max_photo_bytes=self._settings.max_photo_bytes,
            max_photo_pixels=self._settings.max_photo_pixels,
            max_rendition_side=MAX_SIDE,
            canvas=models.denoiser.canvas,
            rendition_presets=sorted(PRESETS),
        )
        for model in models.all():
            response.models.add(
                name=model.name, parameters=model.parameters, max_batch_size=model.max_batch_size
            )
        return response
