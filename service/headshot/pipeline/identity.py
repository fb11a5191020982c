"""Embeddings of faces and the template of a person made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import geometry
from headshot.pipeline.call import Call
from headshot.pipeline.detect import Face
from headshot.pipeline.engine import Engine

Vector = NDArray[np.float32]

# Triton's names of the recogniser that decides and of an optional second one beside it.
RECOGNISER = "identity_encoder"
SECOND_RECOGNISER = "verifier"


@dataclass(frozen=True)
class Template:
    """Who a person is, to the recogniser that decides and, perhaps, to a second one.

    Attributes:
        vector: float32 [D], unit length.
        recogniser: identifier of the recogniser.
        second: float32 [E], unit length, of the second recogniser; None where none is served or
            the template came without photos.
    """

    vector: Vector
    recogniser: str
    second: Vector | None = None

    def similarity(self, other: Vector) -> float:
        """Return the cosine similarity to a unit vector, -1 to 1."""
        return float(np.clip(self.vector @ other, -1.0, 1.0))


@dataclass(frozen=True)
class Agreement:
    """Which of a set's faces are one person.

    Attributes:
        members: indices of the faces of the person, ascending.
        weights: weight of each face in the template, 0 for outsiders; sums to 1.
        similarities: each face's similarity to the template of the other members; None where there
            is no other member.
    """

    members: tuple[int, ...]
    weights: tuple[float, ...]
    similarities: tuple[float | None, ...]


async def embed(
    engine: Engine,
    call: Call,
    photo: NDArray[np.uint8],
    face: Face,
    *,
    stage: str = "encode_identity",
    model: str = RECOGNISER,
) -> Vector:
    """Return a face's embedding, float32 [D] of unit length."""
    aligned = await align(engine, call, photo, face)
    return await embed_aligned(engine, call, aligned, stage=stage, model=model)


async def align(
    engine: Engine, call: Call, photo: NDArray[np.uint8], face: Face
) -> NDArray[np.uint8]:
    """Return the face as recognisers see it, uint8 [112, 112, 3]."""
    return await engine.workers.run(
        call.deadline, geometry.align_face, photo, face.landmarks, antialias=True
    )


async def embed_aligned(
    engine: Engine,
    call: Call,
    aligned: NDArray[np.uint8],
    *,
    stage: str = "encode_identity",
    model: str = RECOGNISER,
) -> Vector:
    """Return the embedding of a face of `align`, float32 [D] of unit length."""
    outputs = await engine.infer(
        call, stage, model, {"face": aligned[None]}, urgent=stage == "verify"
    )
    first: NDArray[np.float32] = np.asarray(outputs["embedding"], np.float32)[0]
    return first


async def embed_second(
    engine: Engine,
    call: Call,
    photo: NDArray[np.uint8],
    face: Face,
    *,
    stage: str = "encode_identity",
) -> Vector | None:
    """Return a face's embedding by the second recogniser, None where none is served."""
    if SECOND_RECOGNISER not in engine.models.optional:
        return None
    return await embed(engine, call, photo, face, stage=stage, model=SECOND_RECOGNISER)


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


def agree(vectors: Sequence[Vector], quality: Sequence[float], threshold: float) -> Agreement:
    """Find the largest group of faces that are one person; ties go to the better photos.

    Args:
        vectors: float32 [D] unit vectors, at least one.
        quality: weight of each photo, above 0.
        threshold: similarity from which two faces are one person.
    """
    stack = np.stack(vectors)
    similar = stack @ stack.T
    weights = np.asarray(quality, np.float64)
    near = similar >= threshold
    support = (near * weights[None, :]).sum(axis=1)
    counts = near.sum(axis=1)
    seed = max(range(len(vectors)), key=lambda i: (counts[i], support[i], -i))
    members = tuple(int(i) for i in np.flatnonzero(near[seed]))
    chosen = np.zeros(len(vectors))
    chosen[list(members)] = weights[list(members)]
    chosen /= chosen.sum()
    similarities: list[float | None] = []
    for index in range(len(vectors)):
        others = [i for i in members if i != index]
        if not others:
            similarities.append(None)
            continue
        rest = _unit(np.average(stack[others], axis=0, weights=weights[others]))
        similarities.append(float(rest @ stack[index]))
    return Agreement(members, tuple(float(w) for w in chosen), tuple(similarities))


def make_template(
    vectors: Sequence[Vector],
    weights: Sequence[float],
    recogniser: str,
    seconds: Sequence[Vector] = (),
) -> Template:
    """Return the weighted mean of unit vectors, made unit length again.

    Args:
        vectors: float32 [D] unit vectors, at least one.
        weights: of the vectors.
        recogniser: identifier of the recogniser.
        seconds: the second recogniser's unit vectors of the same faces; empty without one.
    """
    return Template(
        _mean(vectors, weights), recogniser, _mean(seconds, weights) if seconds else None
    )


def _mean(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    mean = np.average(np.stack(vectors), axis=0, weights=np.asarray(weights))
    return _unit(np.asarray(mean, np.float32))
