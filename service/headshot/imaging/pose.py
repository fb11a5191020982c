"""Head pose from five landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headshot.imaging.template import ARCFACE_TEMPLATE

_NOSE_DEPTH: Final = 0.42
"""How far the nose tip stands before the plane of the eyes, in inter-eye distances (about 26 mm of
63 mm in adults); the mouth corners lie in that plane to within a few millimetres."""


@dataclass(frozen=True)
class FaceAngles:
    """Degrees, signs of ISO/IEC 39794-5: all zero for a frontal face.

    Attributes:
        yaw: positive when the subject looks to their left (the viewer's right).
        pitch: positive when the subject looks down.
        roll: positive when the head leans to the subject's right shoulder (viewer's left).
    """

    yaw: float
    pitch: float
    roll: float


def _model() -> NDArray[np.float64]:
    """[5,3] mean face in inter-eye distances: x to the viewer's right, y down, z away from them.

    The frontal ArcFace template made symmetric, which is what "frontal" means to recognisers.
    """
    eyes, nose, mouth = ARCFACE_TEMPLATE[:2], ARCFACE_TEMPLATE[2], ARCFACE_TEMPLATE[3:]
    unit = float(eyes[1, 0] - eyes[0, 0])
    eye_line = float(eyes[:, 1].mean())
    tip = (float(nose[1]) - eye_line) / unit
    lips = (float(mouth[:, 1].mean()) - eye_line) / unit
    half = float(mouth[1, 0] - mouth[0, 0]) / 2 / unit
    return np.array(
        [[-0.5, 0, 0], [0.5, 0, 0], [0, tip, -_NOSE_DEPTH], [-half, lips, 0], [half, lips, 0]]
    )


_MODEL: Final = _model()


def face_angles(landmarks: NDArray[Any]) -> FaceAngles:
    """Estimate yaw, pitch and roll from the five alignment landmarks.

    A scaled-orthographic camera is fitted to a mean 3-D face (the frontal ArcFace template with the
    nose tip 0.42 inter-eye distances before the plane of eyes and mouth): least squares for the
    2x3 camera, then the two orthonormal rows nearest to it (polar factor), as in POS of
    D. DeMenthon and L. Davis, "Model-based object pose in 25 lines of code", IJCV 15, 1995. In
    camera axes (x right, y down, z away) the rotation is R = Rz(-roll) Rx(pitch) Ry(-yaw), hence
    pitch = asin R[2,1], yaw = atan2(R[2,0], R[2,2]), roll = atan2(R[0,1], R[1,1]).
    Noses differ by some 20%: good to about 5 degrees near the frontal pose, and off by up to a
    quarter of the angle far from it.

    Args:
        landmarks: [5,2] pixels, in the order of ARCFACE_TEMPLATE.

    Raises:
        ValueError: wrong shape, values that are not finite, or points that coincide.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError("landmarks must be five finite points, [5,2]")
    model = _MODEL - _MODEL.mean(axis=0)
    camera = np.linalg.lstsq(model, points - points.mean(axis=0), rcond=None)[0].T
    u, d, vt = np.linalg.svd(camera, full_matrices=False)
    if d[0] < 1e-6:
        raise ValueError("landmarks coincide")
    rows = u @ vt
    depth = np.cross(rows[0], rows[1])
    return FaceAngles(
        yaw=math.degrees(math.atan2(depth[0], depth[2])),
        pitch=math.degrees(math.asin(float(np.clip(depth[1], -1, 1)))),
        roll=math.degrees(math.atan2(rows[0, 1], rows[1, 1])),
    )
