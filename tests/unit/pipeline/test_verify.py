"""Whom a made picture shows, and how that is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.imaging import geometry
from headshot.imaging.parts import one_by_one
from headshot.pipeline import verify
from headshot.pipeline.call import Call
from headshot.pipeline.engine import Engine
from headshot.pipeline.identity import SECOND_RECOGNISER, Template
from headshot.pipeline.results import Verification
from headshot.pipeline.verify import Recognised

SIDE = 640
ANN, BEN = (np.eye(4, dtype=np.float32)[axis] for axis in (0, 1))
# Left, top, side, confidence and grey of the faces: the smaller one is found first.
SMALL, LARGE = (60, 60, 120, 0.99, 80), (240, 240, 300, 0.9, 200)


class Triton:
    """Finds the faces it is told, and recognises who they are by their grey."""

    def __init__(self, *faces: tuple[int, int, int, float, int], second: str | None = None) -> None:
        self.faces = faces
        self.workers = self
        parameters = {} if second is None else {"match_threshold": second}
        self.models = SimpleNamespace(
            detector=SimpleNamespace(canvas=SIDE, score_threshold=0.5, nms_iou=0.4),
            encoder=SimpleNamespace(match_threshold=0.344, recogniser="first", fmr=1e-3),
            optional={SECOND_RECOGNISER: SimpleNamespace(parameters=parameters)} if second else {},
        )

    side_by_side = staticmethod(one_by_one)

    async def run(self, _deadline: Deadline, function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    async def infer(self, _call: Call, _stage: str, model: str, inputs: Any, **_: Any) -> Any:
        if model != "face_detector":
            who = ANN if inputs["face"].mean() > 140 else BEN
            return {"embedding": who[None]}
        corners = np.array([face[:3] for face in self.faces], np.float32).reshape(-1, 3)
        places = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
        return {
            "boxes": np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)[None],
            "landmarks": (corners[:, None, :2] + places * corners[:, None, 2:])[None],
            "scores": np.array([[face[3] for face in self.faces]], np.float32),
        }


def picture(*faces: tuple[int, int, int, float, int]) -> np.ndarray:
    made = np.zeros((SIDE, SIDE, 3), np.uint8)
    for x, y, side, _, grey in faces:
        made[y : y + side, x : x + side] = grey
    return made


async def seen_by(triton: Triton) -> Recognised | None:
    call = Call(Deadline.after(30))
    return await verify.recognise(cast(Engine, triton), call, picture(*triton.faces))


def compared(triton: Triton, template: Template, found: Recognised | None) -> Verification:
    return verify.compare(cast(Engine, triton), template, found)


@pytest.mark.parametrize("faces", [(SMALL, LARGE), (LARGE, SMALL)])
async def test_the_largest_face_counts_and_not_the_most_confident(
    faces: tuple[tuple[int, int, int, float, int], ...],
) -> None:
    found = await seen_by(Triton(*faces))
    assert found is not None
    assert np.array_equal(found.vector, ANN)
    assert found.second is None


async def test_a_face_whose_place_is_known_is_recognised_without_being_looked_for() -> None:
    triton = Triton(LARGE, SMALL)
    found = await seen_by(triton)
    assert found is not None
    # A crop of the picture, 40 pixels from its left and 50 from its top, drawn at half the size.
    matrix = np.array([[0.5, 0, -20.25], [0, 0.5, -25.25]], np.float32)
    crop = geometry.warp(picture(LARGE, SMALL), matrix, (300, 280), "replicate")
    triton.faces = ()
    call = Call(Deadline.after(30))
    assert found.face is not None
    moved = found.face.seen_through(matrix)
    again = await verify.recognise(cast(Engine, triton), call, crop, moved)
    assert again is not None
    assert np.array_equal(again.vector, found.vector)
    left, top, side = 0.5 * LARGE[0] - 20.25, 0.5 * LARGE[1] - 25.25, LARGE[2] / 2
    assert moved.box == pytest.approx([left, top, left + side, top + side])
    assert moved.landmarks[2] == pytest.approx([left + 0.5 * side, top + 0.6 * side])


async def test_a_picture_without_a_face_shows_nobody() -> None:
    triton = Triton()
    assert await seen_by(triton) is None
    verdict = compared(triton, Template(ANN, "first"), None)
    assert (verdict.similarity, verdict.same_person) == (-1.0, False)
    assert (verdict.second_similarity, verdict.second) == (None, None)


@pytest.mark.parametrize(("who", "similarity", "same"), [(ANN, 1.0, True), (BEN, 0.0, False)])
def test_the_verdict_tells_the_recogniser_with_its_threshold_and_error(
    who: np.ndarray, similarity: float, same: bool
) -> None:
    verdict = compared(Triton(), Template(ANN, "first"), Recognised(who))
    assert verdict == Verification(similarity, 0.344, "first", 1e-3)
    assert verdict.same_person == same


def test_a_similarity_of_exactly_the_threshold_is_the_same_person() -> None:
    assert Verification(0.344, 0.344, "first", 1e-3).same_person
    assert not Verification(0.3439, 0.344, "first", 1e-3).same_person


async def test_a_second_recogniser_is_told_with_its_own_threshold_and_does_not_decide() -> None:
    triton = Triton(LARGE, second="0.5")
    found = await seen_by(triton)
    assert found is not None
    assert found.second is not None
    assert np.array_equal(found.second, ANN)
    verdict = compared(triton, Template(ANN, "first", second=BEN), found)
    assert verdict.same_person
    assert (verdict.threshold, verdict.second) == (0.344, (0.0, 0.5))


def test_a_template_without_photos_says_nothing_to_the_second_recogniser() -> None:
    found = Recognised(ANN, second=ANN)
    verdict = compared(Triton(second="0.5"), Template(ANN, "first"), found)
    assert (verdict.second_similarity, verdict.second_threshold) == (None, 0.5)
    assert verdict.second is None
