"""Photos as they come in: decoded, their faces found and embedded, each with a verdict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from headshot.errors import (
    FieldViolation,
    NoUsablePhotoError,
    PhotoError,
    PhotoLimitError,
    concerning,
)
from headshot.imaging.decode import DecodeLimits, decode_photo
from headshot.pipeline import capture_advice, detect, identity
from headshot.pipeline.call import Call
from headshot.pipeline.capture_advice import (
    ADVICE,
    Assessment,
    PhotoCode,
    PhotoFacts,
    SetAdvice,
)
from headshot.pipeline.concurrency import together
from headshot.pipeline.detect import Face
from headshot.pipeline.engine import Engine
from headshot.pipeline.identity import Agreement, Template, Vector, make_template
from headshot.pipeline.requests import PhotoInput
from headshot.pipeline.results import PhotoReport

Image = NDArray[np.uint8]

_NO_FACE = (PhotoCode.NO_FACE, PhotoCode.SEVERAL_FACES)


@dataclass(frozen=True)
class Seen:
    """One photo with a usable face.

    Attributes:
        index: position in the request.
        pixels: uint8 [h, w, 3] RGB.
        face: the chosen face.
        embedding: float32 [D], unit length.
        weight: weight in the template, above 0.
        framing: 0..1, how much of head and shoulders the photo holds.
        second: the second recogniser's embedding, None where none is served.
    """

    index: int
    pixels: Image
    face: Face
    embedding: Vector
    weight: float
    framing: float = 1.0
    second: Vector | None = None


@dataclass(frozen=True)
class SeenSet:
    """A set of photos of one person.

    Attributes:
        usable: the photos that serve, in order of the request; at least one.
        reports: a verdict on every photo.
        advice: what the set lacks.
    """

    usable: tuple[Seen, ...]
    reports: tuple[PhotoReport, ...]
    advice: tuple[SetAdvice, ...]

    def template(self, recogniser: str) -> Template:
        """Return the person's template."""
        return make_template(
            [item.embedding for item in self.usable],
            [item.weight for item in self.usable],
            recogniser,
            [item.second for item in self.usable if item.second is not None],
        )

    def best(self) -> Seen:
        """Return the photo that the headshot is made from; the first of equals."""
        return max(self.usable, key=lambda item: (item.weight * item.framing, -item.index))


@dataclass
class _Photo:
    """A photo while it is examined."""

    index: int
    given: PhotoInput
    error: PhotoError | None = None
    pixels: Image | None = None
    original_size: tuple[int, int] | None = None
    faces: int = 0
    face: Face | None = None
    facts: PhotoFacts | None = None
    embedding: Vector | None = None
    second: Vector | None = None


async def examine_set(
    engine: Engine,
    call: Call,
    given: tuple[PhotoInput, ...],
    limits: DecodeLimits,
    working_side: int,
    template: Template | None = None,
    *,
    strict: bool = True,
    begin: Callable[[Image], Awaitable[None]] | None = None,
) -> SeenSet:
    """Decode, detect, measure and embed photos of one person; bad ones are reported and left out.

    Args:
        engine: models and threads.
        call: the request.
        given: the photos.
        limits: enforced before any decode.
        working_side: photos are shrunk to this long side while they are decoded.
        template: who the person is known to be, None to find out from the photos.
        strict: False keeps blurred, dark or turned faces too; only a face is needed.
        begin: told the pixels of an only photo before it is looked at, so that work on it may
            begin.

    Raises:
        NoUsablePhotoError: no photo can serve; each photo's reason is a field violation.
    """
    photos = [_Photo(index, item) for index, item in enumerate(given)]
    only = begin if len(photos) == 1 else None
    await _look(engine, call, photos, limits, working_side, only)
    return _judge(engine, photos, template, strict=strict)


async def examine_sets(
    engine: Engine,
    call: Call,
    given: tuple[tuple[PhotoInput, ...], ...],
    limits: DecodeLimits,
    working_side: int,
) -> tuple[SeenSet, ...]:
    """Examine several sets, each of one person, side by side; only a face is needed.

    Raises:
        NoUsablePhotoError: of the first set in which no photo can serve.
    """
    sets = [[_Photo(index, item) for index, item in enumerate(photos)] for photos in given]
    await _look(engine, call, [photo for photos in sets for photo in photos], limits, working_side)
    return tuple(_judge(engine, photos, None, strict=False) for photos in sets)


async def _look(
    engine: Engine,
    call: Call,
    photos: list[_Photo],
    limits: DecodeLimits,
    working_side: int,
    begin: Callable[[Image], Awaitable[None]] | None = None,
) -> None:
    """Decode photos, find their faces, measure and embed them; what was found is put on them."""
    with call.stage("decode"):
        await together(_decode(engine, call, photo, limits, working_side) for photo in photos)
    readable = [photo for photo in photos if photo.pixels is not None]
    if begin is not None:
        for photo in readable:
            assert photo.pixels is not None
            await begin(photo.pixels)
    # A stage's requests leave together, when the last is prepared, so that they are one batch.
    with call.stage("detect"):
        fitted = await together(
            detect.fit(engine, call, photo.pixels) for photo in readable if photo.pixels is not None
        )
        detecting = (
            _detect(engine, call, photo, canvas)
            for photo, canvas in zip(readable, fitted, strict=True)
        )
        await together(detecting)
    with call.stage("encode_identity"):
        aligned = await _align_all(engine, call, readable)
        # After the requests have left. Faces that may turn out unfit are embedded too: measuring
        # takes as long.
        embedding = (_embed(engine, call, photo, face) for photo, face in aligned)
        await together((*embedding, *(_measure(engine, call, photo) for photo in readable)))


def _judge(
    engine: Engine, photos: list[_Photo], template: Template | None, *, strict: bool
) -> SeenSet:
    """Return who is in a set that was looked at; raises as `examine_set` does."""
    readable = [photo for photo in photos if photo.pixels is not None]
    assessments = [_assess(photo, strict=strict) for photo in photos]
    # The best of those that repeat each other stays; what cannot be used displaces nothing.
    measured = [(photo.facts, photo.index) for photo in readable if photo.facts is not None]
    best_first = sorted(
        (item for item in measured if assessments[item[1]].usable),
        key=lambda item: (-assessments[item[1]].weight, item[1]),
    )
    repeats = capture_advice.duplicates([facts for facts, _ in best_first])
    again = {index for k, (_, index) in enumerate(best_first) if k in repeats}
    assessments = list(capture_advice.mark_duplicates(assessments, frozenset(again)))
    with_face = [photo for photo in readable if assessments[photo.index].usable]
    agreement = _agree(engine, with_face, assessments, template)
    return _conclude(
        engine,
        photos,
        with_face,
        assessments,
        agreement,
        strict=strict,
        by_template=template is not None,
    )


async def _decode(
    engine: Engine, call: Call, photo: _Photo, limits: DecodeLimits, working_side: int
) -> None:
    engine.metrics.photo_received()
    try:
        decoded = await engine.workers.run(
            call.deadline, decode_photo, photo.given.data, limits, long_side=working_side
        )
    except PhotoError as error:
        photo.error = error
        return
    photo.pixels, photo.original_size = decoded.pixels, decoded.original_size


async def _detect(engine: Engine, call: Call, photo: _Photo, fitted: tuple[Image, float]) -> None:
    if photo.pixels is None:
        return
    hint = photo.given.face_hint
    faces = await detect.find_faces(engine, call, photo.pixels, fitted=fitted, hint=hint)
    if faces:
        height, width = photo.pixels.shape[:2]
        photo.face = detect.choose_face(faces, (width, height), hint)
    photo.faces = len(faces)


async def _measure(engine: Engine, call: Call, photo: _Photo) -> None:
    if photo.pixels is None:
        return
    chosen = photo.face
    photo.facts = await engine.workers.run(
        call.deadline,
        capture_advice.measure_photo,
        photo.pixels,
        photo.faces,
        chosen.box if chosen else None,
        chosen.landmarks if chosen else None,
        # On one thread: with two, the recogniser would wait for a processor core.
    )


def _assess(photo: _Photo, *, strict: bool) -> Assessment:
    if photo.error is not None:
        too_large = isinstance(photo.error, PhotoLimitError)
        code = PhotoCode.TOO_LARGE if too_large else PhotoCode.UNREADABLE
        # What is wrong with this file: a JPEG that is cut short needs no other format.
        return Assessment(code, (), (photo.error.message,), 0.0)
    if photo.facts is None:
        code = PhotoCode.UNREADABLE
        return Assessment(code, (), (ADVICE[code],), 0.0)
    found = capture_advice.assess(photo.facts)
    if strict or found.usable or found.code in _NO_FACE:
        return found
    return Assessment(PhotoCode.OK, (found.code, *found.concerns), found.advice, 0.05)


async def _align_all(
    engine: Engine, call: Call, photos: list[_Photo]
) -> list[tuple[_Photo, Image]]:
    """Return each photo with a face and that face as recognisers see it."""
    found = [(photo, photo.pixels, photo.face) for photo in photos]
    seen = [(one, pixels, face) for one, pixels, face in found if pixels is not None and face]
    aligned = await together(identity.align(engine, call, pixels, face) for _, pixels, face in seen)
    return [(photo, image) for (photo, _, _), image in zip(seen, aligned, strict=True)]


async def _embed(engine: Engine, call: Call, photo: _Photo, aligned: Image) -> None:
    photo.embedding = await identity.embed_aligned(engine, call, aligned)
    if photo.pixels is not None and photo.face is not None:
        photo.second = await identity.embed_second(engine, call, photo.pixels, photo.face)


def _agree(
    engine: Engine,
    photos: list[_Photo],
    assessments: list[Assessment],
    template: Template | None,
) -> Agreement:
    """Return who of the faces is the person: the template's, or the largest group's."""
    threshold = engine.models.encoder.match_threshold
    vectors = [photo.embedding for photo in photos if photo.embedding is not None]
    if not vectors:
        return Agreement((), (), ())
    weights = [assessments[photo.index].weight for photo in photos]
    if template is None:
        return identity.agree(vectors, weights, threshold)
    similar = [template.similarity(vector) for vector in vectors]
    members = tuple(k for k, value in enumerate(similar) if value >= threshold)
    total = sum(weights[k] for k in members) or 1.0
    shares = tuple(w / total if k in members else 0.0 for k, w in enumerate(weights))
    return Agreement(members, shares, tuple(similar))


def _conclude(
    engine: Engine,
    photos: list[_Photo],
    with_face: list[_Photo],
    assessments: list[Assessment],
    agreement: Agreement,
    *,
    strict: bool,
    by_template: bool,
) -> SeenSet:
    """Put verdicts, usable photos and advice together."""
    threshold = engine.models.encoder.match_threshold
    shares: dict[int, float] = {}
    similarities: dict[int, float | None] = {}
    for place, photo in enumerate(with_face):
        shares[photo.index] = agreement.weights[place]
        similarities[photo.index] = agreement.similarities[place]
        if place in agreement.members or photo.facts is None:
            continue
        # Left out by the vote; the verdict says so even where the similarity is close.
        below = min(agreement.similarities[place] or 0.0, threshold - 1e-6)
        facts = replace(photo.facts, similarity=below, threshold=threshold)
        assessments[photo.index] = capture_advice.assess(facts, by_template=by_template)
    usable = []
    for photo in with_face:
        share = shares[photo.index]
        if share > 0 and photo.pixels is not None and photo.face is not None:
            if photo.embedding is None or photo.facts is None:
                continue
            framing = capture_advice.framing_share(photo.facts)
            usable.append(
                Seen(
                    photo.index,
                    photo.pixels,
                    photo.face,
                    photo.embedding,
                    share,
                    framing,
                    photo.second,
                )
            )
    reports = tuple(
        PhotoReport(
            index=photo.index,
            photo_id=photo.given.photo_id,
            code=assessments[photo.index].code,
            reason=photo.error.reason if photo.error else "",
            concerns=assessments[photo.index].concerns,
            advice=assessments[photo.index].advice,
            weight=shares.get(photo.index, 0.0),
            face=_as_sent(photo),
            similarity=similarities.get(photo.index),
        )
        for photo in photos
    )
    for report in reports:
        if not report.used:
            engine.metrics.photo_refused(str(report.code))
    if not usable:
        _refuse(photos, reports)
    measured = [photo for photo in photos if photo.facts is not None]
    advice = capture_advice.review(
        [photo.facts for photo in measured if photo.facts is not None],
        [assessments[photo.index] for photo in measured],
        by_template=by_template,
    )
    return SeenSet(tuple(usable), reports, advice if strict else ())


def _as_sent(photo: _Photo) -> Face | None:
    """Return the chosen face in pixels of the photo before it was shrunk, None without a face."""
    if photo.face is None or photo.pixels is None or photo.original_size is None:
        return None
    # A side is shrunk to whole pixels, so the two ratios differ a little.
    ratio = np.divide(photo.original_size, photo.pixels.shape[1::-1]).astype(np.float32)
    # Edges of a box lie between pixels, landmarks on their centres.
    landmarks = (photo.face.landmarks + np.float32(0.5)) * ratio - np.float32(0.5)
    return replace(photo.face, box=photo.face.box * np.tile(ratio, 2), landmarks=landmarks)


def _refuse(photos: list[_Photo], reports: tuple[PhotoReport, ...]) -> NoReturn:
    """Raise the error that fits: the photo's own when there is one, else a verdict for each."""
    if len(photos) == 1 and photos[0].error is not None:
        with concerning(photos[0].given.field):
            raise photos[0].error
    violations = [
        FieldViolation(
            photo.given.field, f"{report.reason or report.code}: {' '.join(report.advice)}"
        )
        for photo, report in zip(photos, reports, strict=True)
    ]
    raise NoUsablePhotoError(
        f"none of the {len(reports)} photo(s) can be used; the details say why for each",
        violations=violations,
        metadata={
            _key(photo): str(report.code) for photo, report in zip(photos, reports, strict=True)
        },
    )


def _key(photo: _Photo) -> str:
    """Return the name of a photo's verdict in the metadata: photo_0 or, in Verify, reference_0."""
    field = photo.given.field.partition("[")[0].rpartition(".")[2]
    return f"{field.removesuffix('s')}_{photo.index}"
