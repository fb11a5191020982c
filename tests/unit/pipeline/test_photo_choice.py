"""Which photo of a set the headshot is made from."""

from __future__ import annotations

import numpy as np
from headshot.pipeline.capture import Seen, SeenSet
from headshot.pipeline.detect import Face


def seen(index: int, weight: float, framing: float) -> Seen:
    face = Face(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9)
    pixels, vector = np.zeros((8, 8, 3), np.uint8), np.array([1, 0], np.float32)
    return Seen(index, pixels, face, vector, weight, framing)


def best(*photos: Seen) -> int:
    return SeenSet(photos, (), ()).best().index


def test_of_equal_photos_the_first_is_taken() -> None:
    assert best(seen(0, 0.5, 1.0), seen(1, 0.5, 1.0)) == 0


def test_a_photo_with_shoulders_is_taken_before_a_tighter_one() -> None:
    assert best(seen(0, 0.51, 0.3), seen(1, 0.49, 1.0)) == 1


def test_a_tight_photo_is_taken_before_one_that_is_much_worse() -> None:
    assert best(seen(0, 0.8, 0.5), seen(1, 0.2, 1.0)) == 0


def test_what_is_cut_off_does_not_change_what_a_photo_counts_in_the_template() -> None:
    vectors = [np.array(v, np.float32) for v in ((1, 0), (0.8, 0.6))]
    photos = [
        Seen(k, seen(k, 0.5, 1.0).pixels, seen(k, 0.5, 1.0).face, vector, 0.5, framing)
        for k, (vector, framing) in enumerate(zip(vectors, (0.1, 1.0), strict=True))
    ]
    template = SeenSet(tuple(photos), (), ()).template("any")
    assert template.similarity(vectors[0]) == template.similarity(vectors[1])
