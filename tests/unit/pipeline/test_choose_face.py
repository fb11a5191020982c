"""Which of several faces is meant."""

from __future__ import annotations

import numpy as np
from headshot.pipeline.detect import Face, choose_face


def face(x: float, y: float, side: float) -> Face:
    box = np.array([x, y, x + side, y + side], np.float32)
    return Face(box, np.zeros((5, 2), np.float32), 0.9)


def test_one_face_is_the_one():
    only = face(0, 0, 50)
    assert choose_face([only], (640, 480), None) is only


def test_a_bystander_far_behind_does_not_make_it_ambiguous():
    near, far = face(200, 100, 160), face(20, 80, 40)
    assert choose_face([far, near], (640, 480), None) is near


def test_two_faces_of_like_size_are_ambiguous():
    assert choose_face([face(0, 0, 100), face(300, 0, 110)], (640, 480), None) is None


def test_a_hint_chooses_the_nearest_face():
    left, right = face(0, 0, 100), face(300, 0, 110)
    assert choose_face([left, right], (640, 480), (0.05, 0.1)) is left
    assert choose_face([left, right], (640, 480), (0.6, 0.1)) is right
