"""Each measure: one picture that passes and one that must fail it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import skimage.data
from headshot.imaging import compose, geometry, quality
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.colorimetry import to_lab
from headshot.imaging.colour import linear_to_srgb, srgb_to_linear
from headshot.imaging.face import face_mask
from headshot.imaging.framing import FramingSpec, plan_crop, plan_portrait
from headshot.imaging.quality import (
    DEFAULT_BOUNDS,
    Bounds,
    Layer,
    QualityReport,
    context,
    ofiq,
    realism,
)
from headshot.imaging.skin import read_skin
from headshot.imaging.tone import ToneSpec
from headshot.pipeline import rendering

from tests.unit.craft import material

GREY = (128, 128, 128)


@dataclass(frozen=True)
class Case:
    """The arguments of one measurement."""

    result: material.U8
    reference: material.U8
    landmarks: material.F32
    alpha: material.F32
    background: material.U8 | tuple[int, int, int] | None = GREY
    similarity: float = 0.7
    threshold: float = 0.4
    second_similarity: float | None = 0.6
    second_threshold: float | None = 0.4
    enlargement: float = 1.0

    def measure(self, bounds: dict[str, Bounds] | None = None) -> QualityReport:
        return quality.measure(
            self.result,
            reference=self.reference,
            landmarks=self.landmarks,
            alpha=self.alpha,
            background=self.background,
            similarity=self.similarity,
            threshold=self.threshold,
            second_similarity=self.second_similarity,
            second_threshold=self.second_threshold,
            enlargement=self.enlargement,
            bounds=bounds,
        )


def good_case() -> Case:
    """Return a headshot that a photographer would deliver."""
    image, landmarks = material.astronaut_portrait()
    alpha = material.person_alpha()
    result = compose.composite(image, alpha, material.plain(GREY))
    return Case(result, image, landmarks, alpha)


def gain(image: material.U8, factor: float | tuple[float, float, float]) -> material.U8:
    return linear_to_srgb(srgb_to_linear(image) * np.asarray(factor, np.float32))


def on_subject(case: Case, changed: material.U8) -> Case:
    """Return the case with the subject's pixels replaced."""
    a = case.alpha[..., None]
    mixed = np.asarray(np.rint(a * changed + (1 - a) * case.result), np.uint8)
    return replace(case, result=mixed)


def moved(case: Case, dx: float, dy: float, scale: float = 1.0) -> Case:
    """Return the whole case shifted and scaled on its canvas, as another framing would be."""
    matrix = np.array([[scale, 0, dx], [0, scale, dy]], np.float32)

    def warp(image: np.ndarray, border: int) -> np.ndarray:
        return cv2.warpAffine(image, matrix, (640, 640), borderMode=border)

    return replace(
        case,
        result=np.asarray(warp(case.result, cv2.BORDER_REPLICATE), np.uint8),
        reference=np.asarray(warp(case.reference, cv2.BORDER_REPLICATE), np.uint8),
        alpha=np.asarray(warp(case.alpha, cv2.BORDER_REPLICATE), np.float32),
        landmarks=np.asarray(case.landmarks * scale + (dx, dy), np.float32),
    )


def tilted(case: Case, degrees: float) -> Case:
    x, y = case.landmarks.mean(axis=0)
    matrix = cv2.getRotationMatrix2D((float(x), float(y)), degrees, 1.0)
    points = case.landmarks @ matrix[:, :2].T + matrix[:, 2]
    return replace(case, landmarks=np.asarray(points, np.float32))


def plastic(case: Case) -> Case:
    smooth = np.asarray(
        cv2.edgePreservingFilter(case.result, flags=1, sigma_s=60, sigma_r=0.8), np.uint8
    )
    return on_subject(case, smooth)


def oversharpened(case: Case) -> Case:
    blurred = cv2.GaussianBlur(case.result, (0, 0), 1.5)
    return on_subject(
        case, np.asarray(cv2.addWeighted(case.result, 4.0, blurred, -3.0, 0), np.uint8)
    )


def noisy(case: Case, sigma: float) -> Case:
    noise = np.random.default_rng(1).standard_normal(case.result.shape) * sigma
    return on_subject(case, np.asarray(np.clip(case.result + noise, 0, 255), np.uint8))


def dark_complexion(case: Case, lightness: float) -> Case:
    """Return the case with skin of that L*, on which a lamp glints: oil reflects on any skin."""
    light = srgb_to_linear(case.result)
    own = read_skin(case.result, case.landmarks)
    share = ((lightness + 16) / (own.lightness + 16)) ** 3
    # Skin is what has its colour, however light falls on it; eyes and teeth have another.
    away = np.hypot(*(to_lab(case.result)[..., 1:] - (own.a, own.b)).transpose(2, 0, 1))
    skin = (away < 22) & (case.alpha > 0.9) & (face_mask(case.landmarks, (640, 640)) > 0)
    weight = cv2.GaussianBlur(skin.astype(np.float32), (0, 0), 1)[..., None]
    glints = np.zeros((640, 640), np.float32)
    (x, y), nose = case.landmarks[:2].mean(axis=0), case.landmarks[2]
    for place in ((x - 20, y - 35), (x + 15, y - 30), (float(nose[0]), float(nose[1]) - 12)):
        cv2.circle(glints, (round(float(place[0])), round(float(place[1]))), 9, 0.6, -1)
    shine = cv2.GaussianBlur(glints, (0, 0), 3)[..., None]
    return replace(case, result=linear_to_srgb(light * (1 - weight * (1 - share)) + shine))


def half_shadow(case: Case) -> Case:
    weight = np.clip((np.arange(640) - case.landmarks[2, 0]) / 20, 0, 1)[None, :, None]
    dark = gain(case.result, 0.12)
    return on_subject(case, np.asarray(case.result * (1 - weight) + dark * weight, np.uint8))


def haloed(case: Case) -> Case:
    """Return the case with the white line of a careless cut-out along the outline."""
    ring = ((case.alpha > 0.05) & (case.alpha < 0.95)).astype(np.uint8)
    ring = cv2.dilate(ring, np.ones((3, 3), np.uint8)) > 0
    result = case.result.copy()
    result[ring] = 250
    return replace(case, result=result)


def spilled(case: Case) -> Case:
    """Return the case cut out of a green wall without cleaning the edge colours."""
    wall = material.over(case.reference, case.alpha, material.plain((20, 200, 40)))
    rough = np.clip(cv2.dilate(case.alpha, np.ones((7, 7), np.uint8)), 0, 1)
    result = material.over(wall, rough, material.plain(GREY))
    return replace(case, reference=wall, result=result)


def foggy(case: Case) -> Case:
    soft = np.asarray(cv2.GaussianBlur(case.alpha, (0, 0), 16), np.float32)
    return replace(
        case, alpha=soft, result=material.over(case.reference, soft, material.plain(GREY))
    )


def scissored(case: Case) -> Case:
    hard = np.asarray(case.alpha > 0.5, np.float32)
    return replace(
        case, alpha=hard, result=material.over(case.reference, hard, material.plain(GREY))
    )


def blocky(case: Case) -> Case:
    ok, data = cv2.imencode(".jpg", case.result, [cv2.IMWRITE_JPEG_QUALITY, 6])
    assert ok
    return replace(case, result=np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8))


def camouflaged(case: Case) -> Case:
    """Return the case before a background of the face's own colour."""
    mask = face_mask(case.landmarks, (640, 640)) > 0
    colour = tuple(int(v) for v in np.median(case.reference[mask], axis=0))
    ground = material.plain((colour[0], colour[1], colour[2]))
    # Hair of the same colour too, so that nothing sets the face off.
    return replace(
        case, result=compose.composite(case.reference, case.alpha, ground), background=ground
    )


def restless(case: Case) -> Case:
    squares = np.indices((640, 640)).sum(axis=0) // 24 % 2
    ground = np.repeat((squares * 160 + 40).astype(np.uint8)[..., None], 3, axis=2)
    return replace(
        case, result=compose.composite(case.reference, case.alpha, ground), background=ground
    )


FAILURES = {
    "identity.margin": lambda c: replace(c, similarity=0.39),
    "identity.second_margin": lambda c: replace(c, second_similarity=0.2),
    "realism.sharpness": lambda c: on_subject(
        c, np.asarray(cv2.GaussianBlur(c.result, (0, 0), 3), np.uint8)
    ),
    "realism.texture_kept": plastic,
    "realism.detail_kept": plastic,
    "realism.noise": lambda c: noisy(c, 9),
    "realism.luminance_mean": lambda c: on_subject(c, gain(c.result, 0.04)),
    "realism.luminance_variance": lambda c: on_subject(c, material.plain((150, 110, 95))),
    "realism.dynamic_range": lambda c: on_subject(c, np.asarray(c.result // 12 + 110, np.uint8)),
    "realism.under_exposure": lambda c: on_subject(c, gain(c.result, 0.08)),
    "realism.over_exposure": lambda c: on_subject(c, gain(c.result, 2.6)),
    "realism.clipping": lambda c: on_subject(c, gain(c.result, 2.6)),
    "realism.illumination_uniformity": half_shadow,
    "realism.natural_colour": lambda c: on_subject(c, gain(c.result, (0.45, 1.0, 1.5))),
    "realism.colour_cast": lambda c: on_subject(c, gain(c.result, (0.8, 1.0, 1.8))),
    "realism.skin_delta_ita": lambda c: on_subject(c, gain(c.result, 1.5)),
    "realism.skin_delta_hue": lambda c: on_subject(c, gain(c.result, (1.0, 1.0, 1.5))),
    "realism.edge_halo": haloed,
    "realism.edge_spill": spilled,
    "realism.edge_width": foggy,
    "realism.blockiness": blocky,
    "context.eye_line": lambda c: moved(c, 0, 130),
    "context.eye_tilt": lambda c: tilted(c, 8),
    "context.head_height": lambda c: moved(c, 160, 100, 0.5),
    "context.head_size": lambda c: moved(c, 160, 100, 0.5),
    "context.inter_eye_distance": lambda c: replace(c, enlargement=2.0),
    "context.margin_top": lambda c: moved(c, 0, -90),
    "context.margin_sides": lambda c: moved(c, -215, 0),
    "context.margin_chin": lambda c: moved(c, 0, 300),
    "context.circle_overflow": lambda c: moved(c, -170, -60),
    "context.contrast_48": camouflaged,
    "context.contrast_32": camouflaged,
    "context.background_uniformity": restless,
}


@pytest.fixture(scope="module")
def case() -> Case:
    return good_case()


@pytest.fixture(scope="module")
def good(case: Case) -> QualityReport:
    return case.measure()


def test_every_measure_has_a_picture_that_must_fail_it() -> None:
    assert set(FAILURES) == set(DEFAULT_BOUNDS)


@pytest.mark.parametrize("name", sorted(DEFAULT_BOUNDS))
def test_a_good_headshot_passes(name: str, good: QualityReport) -> None:
    found = good.get(name)
    assert found.passed, (found.value, found.bounds)


@pytest.mark.parametrize("name", sorted(DEFAULT_BOUNDS))
def test_a_spoilt_headshot_fails(name: str, case: Case) -> None:
    found = FAILURES[name](case).measure().get(name)
    assert not found.passed, (found.value, found.bounds)


def test_scissors_are_told_from_a_soft_edge(case: Case) -> None:
    assert not scissored(case).measure().get("realism.edge_width").passed


def test_texture_is_told_as_that_of_the_result_over_the_photos(case: Case) -> None:
    kept = [
        realism.skin_kept(changed.result, case.reference, case.landmarks).texture
        for changed in (plastic(case), case, oversharpened(case))
    ]
    assert kept[0] < 0.7 < 0.9 < kept[1] < 1.1 < 1.6 < kept[2]


def test_a_matte_that_leaves_the_face_out_lets_nothing_stand_out(case: Case) -> None:
    face = cv2.dilate(face_mask(case.landmarks, (640, 640)), np.ones((61, 61), np.uint8)) > 0
    faceless = np.where(face, np.float32(0), case.alpha)
    contrasts = [
        context.small_contrast(case.result, case.landmarks, alpha, 48)
        for alpha in (case.alpha, faceless, np.ones_like(case.alpha))
    ]
    assert contrasts[0] is not None
    assert contrasts[0] > 10
    assert contrasts[1:] == [0.0, None]  # No face beside a background, and no background.


def test_over_sharpening_fails_the_upper_end_of_texture(case: Case) -> None:
    assert not oversharpened(case).measure().get("realism.texture_kept").passed


def test_a_style_can_tighten_a_bound(case: Case, good: QualityReport) -> None:
    value = good.get("context.contrast_32").value
    tight = case.measure({"context.contrast_32": Bounds(low=value + 1)})
    assert not tight.passed
    assert [m.id for m in tight.failed] == ["context.contrast_32"]


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(low=0.0), Bounds(high=1.0), Bounds(0.0, 1.0)])
def test_what_could_not_be_computed_passes_no_bound(bounds: Bounds) -> None:
    assert not bounds.holds(float("nan"))
    assert bounds.holds(0.0)
    assert bounds.holds(1.0)


@pytest.mark.parametrize(
    ("colour", "clipped"),
    [
        ((180, 40, 0), 0.0),  # Saturated, but no detail is lost.
        ((1, 1, 0), 1.0),
        ((254, 120, 100), 1.0),
        ((253, 253, 253), 0.0),
    ],
)
def test_a_face_is_clipped_where_one_channel_is_burnt_or_all_are_drowned(
    colour: tuple[int, int, int], clipped: float, case: Case
) -> None:
    assert realism.clipping(material.plain(colour), case.landmarks) == clipped


@pytest.mark.parametrize(("grey", "share"), [(252, 1.0), (250, 0.0)])
def test_over_exposed_is_a_luminance_of_247_and_more(grey: int, share: float, case: Case) -> None:
    light = ofiq.face_light(material.plain((grey, grey, grey)), case.landmarks)
    assert light.over_exposure.value == pytest.approx(share)


def test_a_bound_on_no_measure_is_refused(case: Case) -> None:
    with pytest.raises(ValueError, match=r"no such measure: realism\.beauty"):
        case.measure({"realism.beauty": Bounds(low=1)})


def test_the_report_has_three_layers_of_plain_data(good: QualityReport) -> None:
    data = good.as_dict()
    assert set(data) == {"passed", "identity", "realism", "context"}
    assert all(good.layer(layer) for layer in Layer)
    names = {m.standard for m in good.measures if m.standard}
    assert {"Sharpness", "DynamicRange", "NaturalColour", "HeadSize", "LuminanceMean"} <= names
    assert all(m.component is None or 0 <= m.component <= 100 for m in good.measures)


def test_a_measure_at_twice_the_resolution_says_nearly_the_same(good: QualityReport) -> None:
    image, landmarks = material.astronaut_portrait(1280)
    alpha = material.person_alpha(1280)
    result = compose.composite(image, alpha, material.plain(GREY, 1280))
    large = Case(result, image, landmarks, alpha, enlargement=2.0).measure()
    for name in ("context.eye_line", "context.head_height", "realism.luminance_mean"):
        assert large.get(name).value == pytest.approx(good.get(name).value, rel=0.05, abs=0.005)
    assert large.get("context.inter_eye_distance").value == pytest.approx(
        good.get("context.inter_eye_distance").value, rel=0.01
    )


@pytest.mark.parametrize("lightness", [34, 32, 31])
def test_a_dark_complexion_in_good_light_is_not_under_exposed(lightness: float, case: Case) -> None:
    dark = dark_complexion(case, lightness)
    assert read_skin(dark.result, dark.landmarks).lightness == pytest.approx(lightness, abs=2.5)
    found = dark.measure().get("realism.under_exposure")
    assert found.passed, (found.value, found.bounds)
    assert found.bounds == Bounds(high=0.90)
    assert found.component is not None
    assert found.component >= 52


def test_of_two_faces_as_dark_the_one_without_light_fails(case: Case) -> None:
    lit = dark_complexion(case, 32).measure().get("realism.under_exposure")
    unlit = on_subject(case, gain(case.result, 0.15)).measure().get("realism.under_exposure")
    assert lit.value > 0.7
    assert unlit.value > 0.7
    assert (lit.passed, unlit.passed) == (True, False)


def test_a_white_background_beside_a_narrow_face_is_no_light_on_it(case: Case) -> None:
    alpha = np.zeros((640, 640), np.float32)
    x, y = case.landmarks.mean(axis=0)
    cv2.ellipse(alpha, (round(float(x)), round(float(y))), (62, 100), 0, 0, 360, 1.0, -1)
    dark = gain(case.reference, 0.12)
    white = compose.composite(dark, alpha, material.plain((255, 255, 255)))
    report = replace(case, result=white, reference=dark, alpha=alpha).measure()
    assert not report.get("realism.under_exposure").passed


def test_a_style_has_the_last_word_on_under_exposure(case: Case) -> None:
    asked = {"realism.under_exposure": Bounds(high=0.5)}
    found = dark_complexion(case, 32).measure(asked).get("realism.under_exposure")
    assert found.bounds == Bounds(high=0.5)
    assert not found.passed


def test_a_selfie_in_the_light_of_a_lamp_is_under_exposed(photos: list[str]) -> None:
    for name in (n for n in photos if n.startswith("selfie_lamp")):
        photo, points = material.photo(name)
        frame = plan_portrait(points, None, photo.shape[1::-1])
        image = geometry.warp(photo, frame.matrix, (640, 640), "replicate")
        whole = np.ones((640, 640), np.float32)
        found = Case(image, image, frame.landmarks, whole, background=None).measure()
        assert not found.get("realism.under_exposure").passed, name


@pytest.mark.parametrize("head_height", [0.36, 0.44, 0.52])
def test_the_distance_of_the_eyes_is_that_of_the_photo_however_it_is_framed(
    head_height: float,
) -> None:
    frame = plan_portrait(
        material.ASTRONAUT_LANDMARKS, None, (512, 512), FramingSpec(head_height=head_height)
    )
    photo = skimage.data.astronaut()
    reference = geometry.warp(photo, frame.matrix, (640, 640), "replicate")
    # The known matte belongs to another framing of the same photo.
    usual = np.vstack([material.astronaut_frame().matrix, [0, 0, 1]])
    there = (np.vstack([frame.matrix, [0, 0, 1]]) @ np.linalg.inv(usual))[:2]
    known = np.asarray(np.rint(material.person_alpha() * 255), np.uint8)
    alpha = geometry.warp(known, there, (640, 640), "replicate")
    person = rendering.cut_person(reference, alpha, frame, ToneSpec(), "none", reference)
    spec, whole = BackgroundSpec(colour="grey"), plan_crop(frame, person.alpha, 1.0)
    square = rendering.compose_crop(person, whole, (640, 640), spec, 0, 0.0)
    report = rendering.judge(person, square, whole, spec, reference, 0.9, 0.3, {}, 0)
    found = report.get("context.inter_eye_distance")
    assert found.value == pytest.approx(45, abs=1)
    assert not found.passed


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_light_and_colour_of_the_cheeks_do_not_change_with_the_tilt_of_the_head(
    degrees: float, portrait: tuple[material.U8, material.F32]
) -> None:
    upright = ofiq.face_light(*portrait).uniformity.value
    turned = material.leaning(*portrait, degrees)
    assert ofiq.face_light(*turned).uniformity.value == pytest.approx(upright, abs=0.1)
    green = gain(portrait[0], (0.45, 1.0, 1.0)), portrait[1]
    unnatural = ofiq.natural_colour(*green).value
    assert unnatural > 0
    found = ofiq.natural_colour(*material.leaning(*green, degrees)).value
    assert found == pytest.approx(unnatural, abs=1.0)


def test_a_kept_background_is_not_judged_as_a_cut_out(case: Case) -> None:
    ids = {m.id for m in replace(case, background=None).measure().measures}
    assert not ids & {"realism.edge_halo", "context.background_uniformity"}


def test_where_no_background_is_seen_nothing_is_measured_on_it(case: Case) -> None:
    everything = np.ones_like(case.alpha)
    report = replace(case, result=case.reference, alpha=everything).measure()
    left_out = {"background_uniformity", "contrast_48", "contrast_32"}
    assert not {f"context.{name}" for name in left_out} & {m.id for m in report.measures}


def test_sizes_that_differ_are_refused(case: Case) -> None:
    with pytest.raises(ValueError, match="differ in size"):
        replace(case, alpha=case.alpha[:300]).measure()


class TestFormulas:
    """Values of ISO/IEC 29794-5 worked out by hand."""

    def test_head_size_is_best_at_0_45(self) -> None:
        landmarks = np.array([[-46, 0], [46, 0], [0, 50], [-40, 100], [40, 100]], np.float32)
        height = round(1.78 * 100 / 0.45)
        best = ofiq.head_size(landmarks + 300, height)
        assert best.value == pytest.approx(0.45, abs=0.002)
        assert best.component >= 97
        assert ofiq.head_size(landmarks + 300, 2 * height).component < 10

    def test_inter_eye_distance_of_70_px_is_worth_50(self) -> None:
        landmarks = np.array([[0, 0], [70, 0], [35, 40], [5, 75], [65, 75]], np.float32)
        found = ofiq.inter_eye_distance(landmarks, 0)
        assert (found.value, found.component) == (pytest.approx(70), 50)
        assert ofiq.inter_eye_distance(landmarks, 60).value == pytest.approx(140)

    def test_dynamic_range_is_the_entropy_of_the_face_histogram(self) -> None:
        landmarks = np.array([[80, 100], [120, 100], [100, 122], [85, 143], [115, 143]], np.float32)
        flat = ofiq.face_light(material.plain((90, 90, 90), 256), landmarks)
        assert flat.dynamic_range.value == 0
        assert flat.variance.value == pytest.approx(0, abs=1e-9)
        assert flat.uniformity == ofiq.Component(pytest.approx(1.0), 100)

    def test_a_greyscale_picture_has_no_unnatural_colour(self) -> None:
        landmarks = np.array([[80, 100], [120, 100], [100, 122], [85, 143], [115, 143]], np.float32)
        grey = material.plain((120, 120, 120), 256)
        assert ofiq.natural_colour(grey, landmarks) == ofiq.Component(0.0, 100)
        cheek = (110 + 15, 75 + 45)
        grey[cheek] = (122, 120, 120)
        assert ofiq.natural_colour(grey, landmarks) == ofiq.Component(0.0, 100)
        grey[cheek] = (123, 120, 120)
        assert ofiq.natural_colour(grey, landmarks).component < 70

    def test_a_greyscale_person_before_a_coloured_background_has_no_unnatural_colour(
        self, portrait: tuple[material.U8, material.F32], alpha: material.F32
    ) -> None:
        level = cv2.cvtColor(portrait[0], cv2.COLOR_RGB2GRAY)[..., None]
        # Each channel is toned by itself: they end up a level or two apart.
        person = np.asarray(np.clip(level + np.array([0, 1, 2]), 0, 255), np.uint8)
        navy = compose.composite(person, alpha, material.plain((31, 46, 74)))
        assert ofiq.natural_colour(navy, portrait[1]) == ofiq.Component(0.0, 100)

    def test_luminance_is_linear(self) -> None:
        assert int(ofiq.luminance(material.plain((188, 188, 188), 4))[0, 0]) == pytest.approx(
            128, abs=1
        )

    def test_over_exposure_counts_luminance_from_247(self) -> None:
        landmarks = np.array([[80, 100], [120, 100], [100, 122], [85, 143], [115, 143]], np.float32)
        white = ofiq.face_light(material.plain((255, 255, 255), 256), landmarks)
        assert white.over_exposure.value == pytest.approx(1)
        assert white.over_exposure.component == 1
        assert white.under_exposure.component == 100
