"""Whether a picture shows the person of a template."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headshot.pipeline import detect, identity
from headshot.pipeline.call import Call
from headshot.pipeline.detect import Face
from headshot.pipeline.engine import Engine
from headshot.pipeline.identity import Template, Vector
from headshot.pipeline.results import Verification


async def recognise(
    engine: Engine, call: Call, image: NDArray[np.uint8]
) -> tuple[Face, Vector] | None:
    """Return the largest face of a made picture and its embedding, or None where there is none."""
    faces = await detect.find_faces(engine, call, image, stage="verify")
    if not faces:
        return None
    face = max(faces, key=lambda item: item.area)
    return face, await identity.embed(engine, call, image, face, stage="verify")


def compare(engine: Engine, template: Template, vector: Vector | None) -> Verification:
    """Return the verdict on an embedding; a picture without a face has similarity -1."""
    info = engine.models.encoder
    similarity = template.similarity(vector) if vector is not None else -1.0
    return Verification(similarity, info.match_threshold, info.recogniser, info.fmr)
