"""A small face that is meant is looked at again, closer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.imaging.parts import one_by_one
from headshot.pipeline.call import Call
from headshot.pipeline.detect import Image, choose_face, find_faces
from headshot.pipeline.engine import Engine

SIDE = 640
MARKS = {(400, 80, 60): 200, (40, 40, 240): 100, (560, 560, 30): 50}
"""Left, top and side of each face in the photo, and the grey it is painted in."""


def photo() -> Image:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    for (x, y, side), grey in MARKS.items():
        picture[y : y + side, x : x + side] = grey
    return picture


class Detector:
    """Finds the painted squares of a canvas, as a network would; landmarks stay in the middle."""

    def __init__(self) -> None:
        self.workers = self
        self.models = SimpleNamespace(
            detector=SimpleNamespace(canvas=SIDE, score_threshold=0.5, nms_iou=0.4)
        )
        self.seen: list[Image] = []

    side_by_side = staticmethod(one_by_one)

    async def run(self, _deadline: Deadline, function: Any, *args: Any) -> Any:
        return function(*args)

    async def infer(self, _call: Call, _stage: str, _model: str, inputs: Any, **_: Any) -> Any:
        canvas = inputs["image"][0]
        self.seen.append(canvas)
        boxes = []
        for grey in MARKS.values():
            ys, xs = np.nonzero(np.abs(canvas[..., 0].astype(int) - grey) <= 2)
            if xs.size:
                boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        box = np.array([boxes], np.float32)
        landmarks = np.repeat(((box[..., :2] + box[..., 2:]) / 2)[..., None, :], 5, axis=2)
        return {"boxes": box, "landmarks": landmarks, "scores": np.full(box.shape[:2], 0.9)}


@pytest.mark.parametrize(
    ("hint", "looks", "grey"), [((0.67, 0.17), 2, 200), ((0.25, 0.25), 1, 100), (None, 1, 100)]
)
async def test_the_closer_look_is_at_the_face_that_is_meant(
    hint: tuple[float, float] | None, looks: int, grey: int
) -> None:
    detector = Detector()
    call = Call(Deadline.after(30))
    faces = await find_faces(cast(Engine, detector), call, photo(), hint=hint)
    assert len(faces) == len(MARKS)
    assert len(detector.seen) == looks
    if looks == 2:
        closer = detector.seen[1]
        assert (closer == grey).mean() > 0.1
        assert not (closer == 100).any()
    chosen = choose_face(faces, (SIDE, SIDE), hint)
    assert chosen is not None
    x, y, side = next(place for place, value in MARKS.items() if value == grey)
    assert chosen.box == pytest.approx([x, y, x + side, y + side], abs=1.5)
