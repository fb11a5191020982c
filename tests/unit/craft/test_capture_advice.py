from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data
from headshot.imaging.colour import linear_to_srgb, srgb_to_linear
from headshot.imaging.face import shape_of
from headshot.pipeline import capture_advice as advice
from headshot.pipeline.capture_advice import PhotoCode, PhotoFacts, SetCode

from tests.unit.craft import material


def selfie() -> tuple[material.U8, material.F32]:
    """Return the astronaut at the size of a phone selfie."""
    return material.astronaut_portrait(1280)


def facts_of(image: material.U8, landmarks: material.F32) -> PhotoFacts:
    return advice.measure_photo(image, 1, None, landmarks)


def gain(image: material.U8, factor: float) -> material.U8:
    return linear_to_srgb(srgb_to_linear(image) * np.float32(factor))


def blurred(image: material.U8, sigma: float) -> material.U8:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def filtered(image: material.U8) -> material.U8:
    smooth = cv2.edgePreservingFilter(image, flags=1, sigma_s=120, sigma_r=0.6)
    return np.asarray(smooth, np.uint8)


def half_dark(image: material.U8, x: float) -> material.U8:
    weight = np.clip((np.arange(image.shape[1]) - x) / 40, 0, 1)[None, :, None]
    return np.asarray(image * (1 - weight) + gain(image, 0.1) * weight, np.uint8)


def with_glare(image: material.U8, landmarks: material.F32) -> material.U8:
    out = image.copy()
    for x, y in landmarks[:2]:
        cv2.ellipse(out, (round(float(x)), round(float(y))), (42, 18), 20, 0, 360, (255,) * 3, -1)
    return out


def cropped(
    image: material.U8, landmarks: material.F32, rows: slice
) -> tuple[material.U8, material.F32]:
    """Return some rows of a photo, given from the eyes in face units."""
    face = shape_of(landmarks)
    y0, y1 = (round(face.eyes[1] + v * face.scale) for v in (rows.start, rows.stop))
    return np.ascontiguousarray(image[y0:y1]), landmarks - np.array([0, y0], np.float32)


def turned(landmarks: material.F32) -> material.F32:
    """Return the landmarks of the same face turned far to one side."""
    points = landmarks.copy()
    points[2, 0] += 70
    return points


def test_a_good_selfie_is_ok_without_concerns() -> None:
    found = advice.assess(facts_of(*selfie()))
    assert found.code is PhotoCode.OK
    assert found.concerns == ()
    assert found.weight > 0.5


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        (PhotoCode.BLURRED, lambda i, p: (blurred(i, 20), p)),
        (PhotoCode.POSE_TOO_STRONG, lambda i, p: (i, turned(p))),
        (PhotoCode.POSE_TOO_STRONG, lambda i, p: material.leaning(i, p, 43)),
        (PhotoCode.POSE_TOO_STRONG, lambda i, p: material.leaning(i, p, -90)),
        (PhotoCode.TOO_DARK, lambda i, p: (gain(i, 0.02), p)),
        (PhotoCode.TOO_BRIGHT, lambda i, p: (gain(i, 8.0), p)),
        (PhotoCode.FACE_TOO_SMALL, lambda i, p: (i[::8, ::8].copy(), p / 8)),
    ],
)
def test_a_photo_that_cannot_serve_is_left_out_with_its_reason(code, spoil) -> None:  # type: ignore[no-untyped-def]
    found = advice.assess(facts_of(*spoil(*selfie())))
    assert not found.usable
    assert code in (found.code, *found.concerns)
    assert found.weight == 0
    assert advice.ADVICE[code] in found.advice


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        (PhotoCode.BLURRED, lambda i, p: (blurred(i, 4.5), p)),
        (PhotoCode.FILTERED, lambda i, p: (filtered(i), p)),
        (PhotoCode.GLARE, lambda i, p: (with_glare(i, p), p)),
        (PhotoCode.UNEVEN_LIGHT, lambda i, p: (half_dark(i, p[2, 0]), p)),
        (PhotoCode.TOO_DARK, lambda i, p: (gain(i, 0.1), p)),
        (PhotoCode.POSE_TOO_STRONG, lambda i, p: material.leaning(i, p, 25)),
        (
            PhotoCode.UNEVEN_LIGHT,
            lambda i, p: material.leaning(half_dark(i, p[2, 0]), p, 17),
        ),
    ],
)
def test_a_weakness_is_told_without_leaving_the_photo_out(code, spoil) -> None:  # type: ignore[no-untyped-def]
    plain = advice.assess(facts_of(*selfie()))
    found = advice.assess(facts_of(*spoil(*selfie())))
    assert code not in plain.concerns
    assert found.usable
    assert code in found.concerns
    assert 0 < found.weight <= plain.weight


@pytest.mark.parametrize("degrees", [-15, 15])
def test_a_tilt_that_framing_levels_is_no_weakness(degrees: float) -> None:
    plain = advice.assess(facts_of(*selfie()))
    found = advice.assess(facts_of(*material.leaning(*selfie(), degrees)))
    assert (found.code, found.concerns) == (PhotoCode.OK, ())
    assert found.weight == pytest.approx(plain.weight, abs=0.03)


def test_the_more_askew_a_photo_the_less_it_counts() -> None:
    weights = [
        advice.assess(facts_of(*material.leaning(*selfie(), degrees))).weight
        for degrees in (0, 25, 38)
    ]
    assert weights == sorted(weights, reverse=True)
    assert weights[2] < 0.8 * weights[0]


def test_an_evenly_lit_face_stays_evenly_lit_however_the_head_is_tilted(photos: list[str]) -> None:
    for name in photos:
        image, points = material.photo(name)
        small, points = np.ascontiguousarray(image[::2, ::2]), points / 2
        upright = facts_of(small, points)
        for degrees in (-20, 15):
            leaning = facts_of(*material.leaning(small, points, degrees))
            assert upright.light is not None
            assert leaning.light is not None
            assert leaning.light.uniformity.value == pytest.approx(
                upright.light.uniformity.value, abs=0.08
            ), name


def test_a_photo_that_cuts_hair_chin_or_shoulders_holds_less_of_a_headshot() -> None:
    whole = advice.framing_share(facts_of(*selfie()))
    hair, neck, chin, both = (
        advice.framing_share(facts_of(*cropped(*selfie(), rows)))
        for rows in (slice(-1.2, 2.8), slice(-2, 2.2), slice(-2, 1.7), slice(-1.2, 1.7))
    )
    assert whole == 1
    assert whole > neck > chin > both > 0
    assert whole > hair > both


def test_no_face_and_several_faces_are_told_apart() -> None:
    image = skimage.data.astronaut()
    none = advice.assess(advice.measure_photo(image, 0, None, None))
    several = advice.assess(advice.measure_photo(image, 3, None, None))
    assert none.code is PhotoCode.NO_FACE
    assert several.code is PhotoCode.SEVERAL_FACES


def test_another_person_is_left_out() -> None:
    facts = replace(facts_of(*selfie()), similarity=0.1, threshold=0.35)
    assert advice.assess(facts).code is PhotoCode.OTHER_PERSON
    assert advice.assess(replace(facts, similarity=0.5)).usable


def test_who_does_not_match_a_template_is_told_of_the_template() -> None:
    facts = replace(facts_of(*selfie()), similarity=0.1, threshold=0.35)
    found = advice.assess(facts, by_template=True)
    assert found.code is PhotoCode.OTHER_PERSON
    assert "template" in found.advice[0]
    assert "template" not in advice.assess(facts).advice[0]
    good = replace(facts, similarity=0.9)
    assessments = [advice.assess(good), found]
    for by_template in (True, False):
        told = advice.review([good, facts], assessments, by_template=by_template)[0]
        assert told.code == SetCode.DIFFERENT_PEOPLE
        assert ("template" in told.message) == by_template


def test_a_face_that_was_compared_is_another_persons_before_it_is_small_or_blurred() -> None:
    image, landmarks = selfie()
    facts = replace(
        facts_of(image, landmarks), inter_eye=20.0, sharpness=1.0, similarity=0.1, threshold=0.4
    )
    found = advice.assess(facts)
    assert found.code is PhotoCode.OTHER_PERSON
    assert {PhotoCode.FACE_TOO_SMALL, PhotoCode.BLURRED} <= set(found.concerns)


def test_a_recompressed_resized_copy_is_a_duplicate_and_a_shifted_crop_is_not() -> None:
    image, landmarks = selfie()
    small = np.asarray(cv2.resize(image, (900, 900), interpolation=cv2.INTER_AREA), np.uint8)
    ok, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert ok
    copy = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    other = np.ascontiguousarray(image[:1000, 200:1200])
    facts = [
        facts_of(image, landmarks),
        facts_of(copy, landmarks * (900 / 1280)),
        facts_of(other, landmarks - np.array([200, 0], np.float32)),
    ]
    assert advice.duplicates(facts) == frozenset({1})
    marked = advice.mark_duplicates([advice.assess(f) for f in facts], frozenset({1}))
    assert [item.code for item in marked] == [PhotoCode.OK, PhotoCode.DUPLICATE, PhotoCode.OK]


class TestReview:
    def advise(self, facts: list[PhotoFacts]) -> set[str]:
        return {a.code for a in advice.review(facts, [advice.assess(f) for f in facts])}

    def test_three_good_photos_lack_nothing(self) -> None:
        assert self.advise([facts_of(*selfie())] * 3) == set()

    def test_one_photo_is_too_few(self) -> None:
        assert self.advise([facts_of(*selfie())]) == {SetCode.TOO_FEW_PHOTOS}

    def test_a_set_without_a_frontal_photo_is_told(self) -> None:
        image, landmarks = selfie()
        points = landmarks.copy()
        points[2, 0] += 38
        facts = facts_of(image, points)
        assert advice.assess(facts).usable
        assert SetCode.NO_FRONTAL_PHOTO in self.advise([facts] * 3)

    def test_a_set_of_tilted_heads_has_no_frontal_photo(self) -> None:
        facts = facts_of(*material.leaning(*selfie(), 25))
        assert self.advise([facts] * 3) == {SetCode.NO_FRONTAL_PHOTO}

    def test_a_set_in_bad_light_is_told(self) -> None:
        image, landmarks = selfie()
        assert SetCode.NO_WELL_LIT_PHOTO in self.advise([facts_of(gain(image, 0.1), landmarks)] * 3)

    def test_a_set_that_ends_at_the_neck_is_told(self) -> None:
        image, landmarks = selfie()
        facts = facts_of(np.ascontiguousarray(image[:760]), landmarks)
        assert SetCode.NO_SHOULDERS in self.advise([facts] * 3)

    def test_two_people_in_one_set_are_told(self) -> None:
        good = facts_of(*selfie())
        stranger = replace(good, similarity=0.0, threshold=0.3)
        assert SetCode.DIFFERENT_PEOPLE in self.advise([good, good, good, stranger])

    def test_what_cannot_be_read_is_told_every_format_that_can(self) -> None:
        for name in ("JPEG", "PNG", "WebP", "HEIC", "AVIF", "TIFF"):
            assert name in advice.ADVICE[PhotoCode.UNREADABLE]

    def test_advice_is_a_plain_sentence_for_every_code(self) -> None:
        assert set(advice.ADVICE) == set(PhotoCode)
        assert set(advice.SET_ADVICE) == set(SetCode)
        for sentence in (*advice.ADVICE.values(), *advice.SET_ADVICE.values()):
            assert sentence.endswith(".")


def test_real_photos_are_usable_and_a_dark_complexion_is_never_called_dark(
    photos: list[str],
) -> None:
    concerns = {}
    for name in photos:
        found = advice.assess(facts_of(*material.photo(name)))
        assert found.usable, name
        concerns[name] = found.concerns
    lit_well = [n for n in photos if n.startswith(("london", "official"))]
    assert not [n for n in lit_well if PhotoCode.TOO_DARK in concerns[n]]
    assert not [n for n in lit_well if PhotoCode.FILTERED in concerns[n]]
    assert all(PhotoCode.TOO_DARK in concerns[n] for n in photos if n.startswith("selfie_lamp"))


def test_neutral_and_smiling_photos_of_one_person_are_no_duplicates(photos: list[str]) -> None:
    facts = [facts_of(*material.photo(name)) for name in photos]
    assert advice.duplicates(facts) == frozenset()
