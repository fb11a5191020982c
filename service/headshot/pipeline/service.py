"""The pipeline as callers see it: the stages alone and the whole headshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.config import Settings
from headshot.deadline import Deadline
from headshot.errors import (
    FieldViolation,
    InvalidRequestError,
    NoUsablePhotoError,
    PhotoError,
    concerning,
)
from headshot.imaging import compose, foreground
from headshot.imaging import matte as mattes
from headshot.imaging.containers.sniff import read_header
from headshot.imaging.decode import DecodeLimits, decode_photo
from headshot.imaging.provenance import Signer
from headshot.pipeline import (
    capture,
    conditioning,
    create,
    denoise,
    frame,
    pictures,
    verify,
    warm_up,
    wishes,
)
from headshot.pipeline.call import Call
from headshot.pipeline.degrade import StageCosts
from headshot.pipeline.denoise import DenoisePlan
from headshot.pipeline.engine import Engine
from headshot.pipeline.identity import Template
from headshot.pipeline.requests import HeadshotOptions, HeadshotRequest, PhotoInput
from headshot.pipeline.results import (
    CandidateImage,
    DenoiseResult,
    HeadshotResult,
    IdentityResult,
    PhotoReport,
    Verification,
)
from headshot.pipeline.styles import Style, load_styles
from headshot.pipeline.team import TeamMember
from headshot.telemetry.metrics import Metrics
from headshot.triton.contracts import ModelSet

P = ParamSpec("P")
T = TypeVar("T")
Image = NDArray[np.uint8]

# The Upscale RPC's largest input; its answer is 16 times as many pixels.
_UPSCALE_SIDE = 1280


@dataclass(frozen=True)
class MatteResult:
    """A cut-out.

    Attributes:
        alpha: uint8 [h, w], opacity of the person.
        cutout: uint8 [h, w, 4] with cleaned edge colours, None when not asked for.
    """

    alpha: Image
    cutout: Image | None


@dataclass(frozen=True)
class VerifyResult:
    """The answer of Verify and the verdicts on its photos."""

    verification: Verification
    photo: PhotoReport
    references: tuple[PhotoReport, ...]


class Pipeline:
    """All that the service does with photos.

    Args:
        engine: models, threads, metrics.
        settings: limits, default style, regenerations.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._book = load_styles(settings.styles)
        self._costs = StageCosts()
        self._limits = DecodeLimits(
            max_bytes=settings.max_photo_bytes, max_pixels=settings.max_photo_pixels
        )
        self._cmyk = settings.cmyk_profile.read_bytes() if settings.cmyk_profile else None
        self._signer = _signer(settings)
        self._book.get(settings.default_style)

    @property
    def models(self) -> ModelSet:
        """The models that are served."""
        return self._engine.models

    @property
    def styles(self) -> tuple[Style, ...]:
        """Every style and version."""
        return tuple(self._book)

    @property
    def metrics(self) -> Metrics:
        """Where the pipeline counts."""
        return self._engine.metrics

    def style(self, options: HeadshotOptions, field: str = "options") -> Style:
        """Return the style that options name; `field` is their place in the request.

        Raises:
            StyleError: there is none of that name and version.
        """
        name = options.style_id or self._settings.default_style
        with concerning(f"{field}.style_id"):
            newest = self._book.get(name)
        if not options.style_version:
            return newest
        with concerning(f"{field}.style_version"):
            return self._book.get(name, options.style_version)

    def plan(
        self, steps: int, strength: float | None, seed: int, *, previews: bool = False
    ) -> DenoisePlan:
        """Return a denoise plan with the model's defaults filled in."""
        info = self.models.denoiser
        return DenoisePlan(
            strength=info.default_strength if strength is None else strength,
            steps=steps or info.steps,
            seed=seed,
            previews=previews,
        )

    async def off_loop(
        self, call: Call, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function on a thread, within the call's deadline."""
        return await self._engine.workers.run(call.deadline, function, *args, **kwargs)

    async def encode_identity(self, call: Call, photos: tuple[PhotoInput, ...]) -> IdentityResult:
        """Make a template from photos of one person.

        Raises:
            NoUsablePhotoError: none of them can serve.
        """
        seen = await capture.examine_set(self._engine, call, photos, self._limits, self._side)
        return IdentityResult(
            seen.template(self.models.encoder.recogniser), seen.reports, seen.advice
        )

    async def denoise(
        self,
        call: Call,
        photo: PhotoInput,
        template: Template | None,
        style_id: str,
        plan: DenoisePlan,
        candidates: int,
    ) -> DenoiseResult:
        """Frame one photo and make candidates of it; fewer where they would not differ."""
        with concerning("style_id"):
            style = self._book.get(style_id or self._settings.default_style)
        seen = await capture.examine_set(self._engine, call, (photo,), self._limits, self._side)
        best = seen.best()
        framed = await frame.frame_photo(
            self._engine, call, best.pixels, best.face, style.framing_spec()
        )
        identity = template or seen.template(self.models.encoder.recogniser)
        with call.stage("denoise"):
            seen_by_model = await conditioning.make_conditioning(
                self._engine, call, framed.reference, identity.vector, style.id
            )
            differing = denoise.differing(self.models.denoiser, plan, candidates)
            images = await denoise.denoise(
                self._engine, call, seen_by_model, dict.fromkeys(range(differing), plan)
            )
        return DenoiseResult(
            framed.reference,
            tuple(
                CandidateImage(index, image, plan.strength_of(index))
                for index, image in enumerate(images)
            ),
            seen.reports[0],
            style.id,
            style.version,
        )

    async def matte(self, call: Call, photo: PhotoInput, *, cutout: bool) -> MatteResult:
        """Cut the person out of a picture."""
        image = await self._decode(call, photo)
        with call.stage("matte"):
            small, guide = await pictures.matte_and_guide(self._engine, call, image)

            def draw() -> MatteResult:
                # A picture has millions of pixels: threads that are free draw a part of it.
                side_by_side = self._engine.workers.side_by_side
                fitted = mattes.fit(mattes.clean(small), guide, side_by_side=side_by_side)
                if not cutout:
                    return MatteResult(mattes.draw_levels(fitted, image, side_by_side), None)
                alpha = mattes.draw(fitted, image, side_by_side)
                opacity = np.asarray(cv2.convertScaleAbs(alpha, alpha=255), np.uint8)
                colours = foreground.estimate(image, alpha)
                return MatteResult(opacity, compose.cut_out(colours, opacity))

            return await self.off_loop(call, draw)

    async def upscale(self, call: Call, photo: PhotoInput) -> Image:
        """Enlarge a picture by the upscaler's factor."""
        # On a thread, as all reading of what callers sent: a hostile header takes a while to walk.
        with concerning(photo.field):
            header = await self.off_loop(call, read_header, photo.data, self._limits)
        if max(header.width, header.height) > _UPSCALE_SIDE:
            raise InvalidRequestError(
                f"the picture is {header.width} x {header.height}; Upscale takes at most "
                f"{_UPSCALE_SIDE} pixels a side",
                reason="PHOTO_TOO_LARGE",
                violations=[FieldViolation(photo.field, f"{_UPSCALE_SIDE} pixels a side at most")],
            )
        image = await self._decode(call, photo)
        with call.stage("upscale"):
            return await pictures.upscale(self._engine, call, image)

    async def verify(
        self,
        call: Call,
        photo: PhotoInput,
        references: tuple[PhotoInput, ...],
        template: Template | None,
    ) -> VerifyResult:
        """Compare a picture with other photos or a template.

        Raises:
            InvalidRequestError: both or neither of references and template are given.
            NoUsablePhotoError: a side has no usable photo.
        """
        if (template is None) == (not references):
            raise InvalidRequestError(
                "give either references or identity_template",
                violations=[
                    FieldViolation(field, "one of the two is needed, and only one")
                    for field in ("references", "identity_template")
                ],
            )
        sides = ((photo,), references) if references else ((photo,),)
        asked, *others = await capture.examine_sets(
            self._engine, call, sides, self._limits, self._side
        )
        reports = others[0].reports if others else ()
        if template is None:
            template = others[0].template(self.models.encoder.recogniser)
        shown = asked.best()
        found = verify.Recognised(shown.embedding, shown.second)
        return VerifyResult(
            verify.compare(self._engine, template, found), asked.reports[0], reports
        )

    async def check_options(self, deadline: Deadline, options: HeadshotOptions) -> None:
        """Check what headshots shall look like, whosoever they are; make nothing.

        Raises:
            InvalidRequestError: as for `create`, by the field's path from `options`.
            DeadlineError: it passed.
        """
        style = self.style(options)
        # On a thread: a wished background picture is decoded to be checked.
        await self._engine.workers.run(
            deadline, wishes.resolve, style, options, self._cmyk, self._limits
        )

    async def check(self, call: Call, request: HeadshotRequest) -> None:
        """Check a request and the headers of its photos; make nothing.

        As in `create`, photos that cannot be read are no error beside one that can.

        Raises:
            PhotoError: the only photo cannot be read.
            NoUsablePhotoError: none of several can; each is a field violation.
            StyleError, InvalidRequestError: as for `create`.
        """
        await self.check_options(call.deadline, request.options)
        refused = []
        for photo in request.photos:
            try:
                with concerning(photo.field):
                    await self.off_loop(call, read_header, photo.data, self._limits)
            except PhotoError as error:
                refused.append((photo.field, error))
        if len(refused) < len(request.photos):
            return
        if len(refused) == 1:
            raise refused[0][1]
        raise NoUsablePhotoError(
            f"none of the {len(refused)} photos can be read; the details say why for each",
            violations=[
                FieldViolation(field, f"{error.reason}: {error.message}")
                for field, error in refused
            ],
        )

    async def create(
        self, call: Call, request: HeadshotRequest, look: TeamMember | None = None
    ) -> HeadshotResult:
        """Make a verified headshot.

        Args:
            call: the request's context.
            request: photos and wishes.
            look: this person's part in a team, None for one person alone.

        Raises:
            NoUsablePhotoError: no photo can serve.
            VerificationFailedError: no candidate was the same person.
        """
        maker = create.Maker(
            self._engine,
            self._costs,
            self._limits,
            self._side,
            self._settings.max_regenerations,
            self._cmyk,
            self._signer,
        )
        return await maker.make(call, request, self.style(request.options), look)

    async def warm_up(self) -> None:
        """Run every stage once, so that the first request is not slow."""
        await warm_up.warm_up(self._engine)

    @property
    def _side(self) -> int:
        return self._settings.working_side

    async def _decode(self, call: Call, photo: PhotoInput) -> Image:
        with concerning(photo.field), call.stage("decode"):
            decoded = await self.off_loop(call, decode_photo, photo.data, self._limits)
        return decoded.pixels


def _signer(settings: Settings) -> Signer | None:
    """Return the signer of content credentials, None where none is configured."""
    if settings.c2pa_certificate is None or settings.c2pa_key is None:
        return None
    return Signer.from_files(settings.c2pa_certificate, settings.c2pa_key, settings.c2pa_algorithm)
