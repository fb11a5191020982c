"""Which faces of a set are one person, and the template made of them."""

from __future__ import annotations

import numpy as np
import pytest
from headshot.pipeline.identity import Template, agree, make_template


def person(seed: int, dimension: int = 128) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def photo_of(who: np.ndarray, seed: int, noise: float = 0.06) -> np.ndarray:
    vector = who + noise * np.random.default_rng(seed).standard_normal(who.size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_an_outsider_is_left_out_and_weighs_nothing():
    ann, ben = person(1), person(2)
    vectors = [photo_of(ann, 10), photo_of(ben, 11), photo_of(ann, 12), photo_of(ann, 13)]
    found = agree(vectors, [1, 1, 1, 1], threshold=0.4)
    assert found.members == (0, 2, 3)
    assert found.weights[1] == 0
    assert sum(found.weights) == pytest.approx(1)
    assert found.similarities[1] < 0.4 < found.similarities[0]


def test_of_two_photos_that_disagree_the_better_one_stays():
    found = agree([person(1), person(2)], [0.3, 0.9], threshold=0.4)
    assert found.members == (1,)


def test_faces_of_exactly_the_threshold_are_one_person():
    ann, ben = np.eye(2, dtype=np.float32)
    assert agree([ann, ben], [1, 1], threshold=0.0).members == (0, 1)


def test_a_photo_is_compared_to_the_others_by_their_weights():
    one, other = np.eye(2, dtype=np.float32)
    between = np.array([0.6, 0.8], np.float32)
    found = agree([between, one, other], [1.0, 3.0, 4.0], threshold=-1.0)
    assert found.similarities[0] == pytest.approx((0.6 * 3 + 0.8 * 4) / 5)


def test_a_single_photo_is_its_own_template():
    vector = person(1)
    found = agree([vector], [0.5], threshold=0.4)
    assert found.members == (0,)
    assert found.similarities == (None,)
    assert np.allclose(make_template([vector], found.weights, "r").vector, vector, atol=1e-6)


def test_a_better_photo_weighs_more_and_the_template_has_unit_length():
    ann = person(1)
    vectors = [photo_of(ann, 10, 0.1), photo_of(ann, 11, 0.1)]
    template = make_template(vectors, [0.9, 0.1], "r")
    assert np.linalg.norm(template.vector) == pytest.approx(1, abs=1e-5)
    assert template.similarity(vectors[0]) > template.similarity(vectors[1])


def test_a_similarity_never_leaves_its_range():
    vector = person(1)
    assert Template(vector * np.float32(1.0001), "r").similarity(vector) <= 1.0


def test_a_second_recognisers_vectors_make_a_template_of_their_own():
    ann = person(1)
    seconds = [person(3, 512), person(4, 512)]
    template = make_template([ann, ann], [1.0, 3.0], "r", seconds)
    assert template.second is not None
    assert np.linalg.norm(template.second) == pytest.approx(1, abs=1e-5)
    assert template.second @ seconds[1] > template.second @ seconds[0]
    assert make_template([ann], [1.0], "r").second is None
