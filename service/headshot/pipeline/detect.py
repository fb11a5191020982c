"""Finds faces in a photo and chooses the one that is meant."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging import geometry
from headshot.pipeline.call import Call
from headshot.pipeline.engine import Engine

Image = NDArray[np.uint8]

# A detector's landmarks are coarse when the face is small on its canvas: look again, closer.
_COARSE_FRACTION = 0.15
_CLOSER_MARGIN = 2.4
# Detectors miss faces that fill the frame: look again with a border around the photo.
_PADDED_FRACTION = 0.5
# A face this much larger (in area) than every other one is the one that is meant.
_DOMINANT_AREA_RATIO = 2.5
_SAME_FACE_IOU = 0.4


@dataclass(frozen=True)
class Face:
    """A face in pixels of the upright photo.

    Attributes:
        box: float32 [4], x1, y1, x2, y2.
        landmarks: float32 [5, 2]; left eye, right eye, nose, left and right mouth corner as seen.
        score: detector's confidence, 0 to 1.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return float(self.box[3] - self.box[1])

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def inter_eye_distance(self) -> float:
        """Distance between the eyes in pixels."""
        return float(np.linalg.norm(self.landmarks[1] - self.landmarks[0]))

    def seen_through(self, matrix: NDArray[np.floating]) -> Face:
        """Return the face in a picture that shows this one through `matrix` [2, 3], unturned."""
        corners = geometry.apply_transform(matrix, self.box.reshape(2, 2))
        points = geometry.apply_transform(matrix, self.landmarks)
        return Face(corners.reshape(4).astype(np.float32), points.astype(np.float32), self.score)


async def _on_canvas(
    engine: Engine,
    call: Call,
    stage: str,
    canvas: Image,
    scale: float,
    offset: tuple[float, float],
) -> list[Face]:
    """Run the detector on one canvas; map back by x = canvas / scale + offset."""
    info = engine.models.detector
    outputs = await engine.infer(
        call, stage, "face_detector", {"image": canvas[None]}, urgent=stage == "verify"
    )
    scores = np.asarray(outputs["scores"], np.float32)[0]
    keep = scores >= info.score_threshold
    boxes = np.asarray(outputs["boxes"], np.float32)[0][keep]
    landmarks = np.asarray(outputs["landmarks"], np.float32)[0][keep]
    scores = scores[keep]
    shift = np.asarray(offset, np.float32)
    return [
        Face(
            boxes[i] / scale + np.tile(shift, 2),
            landmarks[i] / scale + shift,
            float(scores[i]),
        )
        for i in geometry.nms(boxes, scores, info.nms_iou)
    ]


async def fit(engine: Engine, call: Call, photo: Image) -> tuple[Image, float]:
    """Return the photo on the detector's canvas and its scale there."""
    size = engine.models.detector.canvas
    workers = engine.workers
    return await workers.run(call.deadline, geometry.letterbox, photo, size, workers.side_by_side)


async def find_faces(
    engine: Engine,
    call: Call,
    photo: Image,
    *,
    stage: str = "detect",
    fitted: tuple[Image, float] | None = None,
    hint: tuple[float, float] | None = None,
) -> list[Face]:
    """Return all faces of a photo, most confident first.

    Where the face that is meant (see `choose_face`; the largest where that is open) is small, it
    is looked at again, closer.

    Args:
        engine: models and threads.
        call: the request.
        photo: uint8 [h, w, 3] RGB, upright.
        stage: stage to book the time on.
        fitted: of `fit`, None to do it here.
        hint: a point in 0..1 of width and height, near the wanted face.
    """
    size = engine.models.detector.canvas
    canvas, scale = fitted or await fit(engine, call, photo)
    faces = await _on_canvas(engine, call, stage, canvas, scale, (0.0, 0.0))
    if not faces:
        padded, scale, offset = await engine.workers.run(call.deadline, _padded, photo, size)
        faces = await _on_canvas(engine, call, stage, padded, scale, offset)
    if not faces:
        return []
    meant = choose_face(faces, (photo.shape[1], photo.shape[0]), hint)
    meant = meant or max(faces, key=lambda face: face.area)
    if meant.height * scale < _COARSE_FRACTION * size:
        finer = await _look_closer(engine, call, stage, photo, meant, size)
        faces = [finer if face is meant else face for face in faces]
    return faces


def _padded(photo: Image, size: int) -> tuple[Image, float, tuple[float, float]]:
    """Return the photo in the middle of a canvas, its edge drawn out, and its scale and offset."""
    inner, scale = geometry.letterbox(photo, int(size * _PADDED_FRACTION))
    height, width = round(photo.shape[0] * scale), round(photo.shape[1] * scale)
    top, left = (size - height) // 2, (size - width) // 2
    canvas = cv2.copyMakeBorder(
        inner[:height, :width],
        top,
        size - height - top,
        left,
        size - width - left,
        cv2.BORDER_REPLICATE,
    )
    return np.asarray(canvas, np.uint8), scale, (-left / scale, -top / scale)


async def _look_closer(
    engine: Engine, call: Call, stage: str, photo: Image, coarse: Face, size: int
) -> Face:
    """Detect again in a square around a face, for finer landmarks; the face itself if not found."""
    centre = (coarse.box[:2] + coarse.box[2:]) / 2
    half = coarse.height * _CLOSER_MARGIN / 2
    left, top = np.maximum(np.floor(centre - half), 0).astype(int)
    right, bottom = np.ceil(centre + half).astype(int)
    crop = photo[top:bottom, left:right]
    canvas, scale = await engine.workers.run(call.deadline, geometry.letterbox, crop, size)
    again = await _on_canvas(engine, call, stage, canvas, scale, (float(left), float(top)))
    same = [face for face in again if _overlap(face, coarse) > _SAME_FACE_IOU]
    return max(same, key=lambda face: face.score, default=coarse)


def _overlap(a: Face, b: Face) -> float:
    """Return the intersection over union of two faces' boxes."""
    low = np.maximum(a.box[:2], b.box[:2])
    high = np.minimum(a.box[2:], b.box[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / max(a.area + b.area - both, 1e-6)


def choose_face(
    faces: list[Face], size: tuple[int, int], hint: tuple[float, float] | None
) -> Face | None:
    """Return the face that is meant, or None when that is open.

    Args:
        faces: at least one face.
        size: width and height of the photo in pixels.
        hint: a point in 0..1 of width and height, near the wanted face.
    """
    if hint is not None:
        point = np.array(hint, np.float32) * np.array(size, np.float32)

        def distance(face: Face) -> float:
            return float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - point))

        return min(faces, key=distance)
    ordered = sorted(faces, key=lambda face: face.area, reverse=True)
    if len(ordered) == 1 or ordered[0].area >= _DOMINANT_AREA_RATIO * ordered[1].area:
        return ordered[0]
    return None
