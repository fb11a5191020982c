"""Whether a picture shows the person of a template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headshot.pipeline import detect, identity
from headshot.pipeline.call import Call
from headshot.pipeline.detect import Face
from headshot.pipeline.engine import Engine
from headshot.pipeline.identity import SECOND_RECOGNISER, Template, Vector
from headshot.pipeline.results import Verification


@dataclass(frozen=True)
class Recognised:
    """Whom a picture shows.

    Attributes:
        vector: float32 [D], unit length.
        second: by the second recogniser, None where none is served.
        face: where that face is in the picture, None where only the vectors are known.
    """

    vector: Vector
    second: Vector | None = None
    face: Face | None = None


async def recognise(
    engine: Engine, call: Call, image: NDArray[np.uint8], face: Face | None = None
) -> Recognised | None:
    """Return whom a made picture shows, or None where there is no face.

    Args:
        engine: models and threads.
        call: the request.
        image: uint8 [h, w, 3].
        face: where its face is known to be; None to look for the largest one.
    """
    if face is None:
        faces = await detect.find_faces(engine, call, image, stage="verify")
        if not faces:
            return None
        face = max(faces, key=lambda item: item.area)
    return Recognised(
        await identity.embed(engine, call, image, face, stage="verify"),
        await identity.embed_second(engine, call, image, face, stage="verify"),
        face,
    )


def compare(engine: Engine, template: Template, found: Recognised | None) -> Verification:
    """Return the verdict on a picture; one without a face has similarity -1."""
    info = engine.models.encoder
    similarity = template.similarity(found.vector) if found is not None else -1.0
    second = None
    if found is not None and found.second is not None and template.second is not None:
        second = float(np.clip(template.second @ found.second, -1.0, 1.0))
    return Verification(
        similarity,
        info.match_threshold,
        info.recogniser,
        info.fmr,
        second_similarity=second,
        second_threshold=_second_threshold(engine),
    )


def _second_threshold(engine: Engine) -> float | None:
    """Return the second recogniser's threshold as its configuration tells it."""
    served = engine.models.optional.get(SECOND_RECOGNISER)
    told = served.parameters.get("match_threshold") if served is not None else None
    return None if told is None else float(told)
