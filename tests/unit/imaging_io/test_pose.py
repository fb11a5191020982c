"""Head pose from five landmarks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from headshot.imaging.geometry import ARCFACE_TEMPLATE, face_angles
from headshot.imaging.pose import _MODEL
from hypothesis import given, settings
from hypothesis import strategies as st


def project(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[5,2]: the mean face turned by degrees and seen from far away."""
    psi, theta, rho = (math.radians(v) for v in (-yaw, pitch, -roll))
    ry = np.array(
        [[math.cos(psi), 0, math.sin(psi)], [0, 1, 0], [-math.sin(psi), 0, math.cos(psi)]]
    )
    rx = np.array(
        [[1, 0, 0], [0, math.cos(theta), -math.sin(theta)], [0, math.sin(theta), math.cos(theta)]]
    )
    rz = np.array(
        [[math.cos(rho), -math.sin(rho), 0], [math.sin(rho), math.cos(rho), 0], [0, 0, 1]]
    )
    return np.asarray((_MODEL @ (rz @ rx @ ry).T)[:, :2] * 90 + 300)


@settings(max_examples=60, deadline=None)
@given(st.floats(-60, 60), st.floats(-50, 50), st.floats(-60, 60))
def test_a_turned_mean_face_gives_its_angles(yaw: float, pitch: float, roll: float) -> None:
    found = face_angles(project(yaw, pitch, roll))
    assert found.yaw == pytest.approx(yaw, abs=0.01)
    assert found.pitch == pytest.approx(pitch, abs=0.01)
    assert found.roll == pytest.approx(roll, abs=0.01)


def test_the_template_is_frontal() -> None:
    found = face_angles(ARCFACE_TEMPLATE)
    assert max(abs(found.yaw), abs(found.pitch), abs(found.roll)) < 0.5


def test_signs_are_those_of_iso_39794() -> None:
    nose_to_viewers_right = ARCFACE_TEMPLATE.copy()
    nose_to_viewers_right[2, 0] += 5
    assert face_angles(nose_to_viewers_right).yaw > 10
    nose_down = ARCFACE_TEMPLATE.copy()
    nose_down[2, 1] += 5
    assert face_angles(nose_down).pitch > 10
    left_eye_lower = ARCFACE_TEMPLATE.copy()
    left_eye_lower[[0, 3], 1] += 6
    assert face_angles(left_eye_lower).roll > 5


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.zeros((4, 2)), np.full((5, 2), np.inf)])
def test_points_without_a_pose_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        face_angles(points)
