from __future__ import annotations

import resource
from dataclasses import replace

import cv2
import numpy as np
import pytest
from headshot.imaging import backdrop, background, grain
from headshot.imaging.background import BackgroundNote, BackgroundSpec, SubjectTones
from headshot.imaging.colorimetry import from_lab, to_lab
from headshot.imaging.framing import Crop, plan_crop
from headshot.imaging.tone import ToneSpec
from headshot.pipeline import rendering

from tests.unit.craft import material

LIGHT_FACE = SubjectTones(skin=(72, 12, 16), hair=(25, 3, 5), clothing=(20, 0, -18))
WHITE_SHIRT = SubjectTones(skin=(60, 12, 16), hair=None, clothing=(95, 0, 2))
DARK_FACE = SubjectTones(skin=(38, 12, 16), hair=(12, 2, 2), clothing=(55, 20, 20))


def test_the_default_is_medium_grey() -> None:
    drawn = backdrop.render(BackgroundSpec(), (40, 30))
    assert drawn.shape == (30, 40, 3)
    assert (drawn == 0x80).all()


def test_auto_sets_dark_faces_on_light_grey_and_light_faces_on_dark_grey() -> None:
    dark = background.choose(BackgroundSpec("auto"), DARK_FACE)
    light = background.choose(BackgroundSpec("auto"), LIGHT_FACE)
    assert dark.spec.colour == "light-grey"
    assert light.spec.colour in ("dark-grey", "grey")
    assert "L*" in dark.reason
    assert dark.notes == light.notes == ()


def test_auto_sets_a_face_in_the_dark_before_a_ground_that_the_same_light_could_fall_on() -> None:
    missed = replace(DARK_FACE, in_the_dark=True)
    assert background.choose(BackgroundSpec("auto"), missed).spec.colour == "grey"


def test_only_a_person_on_whom_nothing_is_bright_is_in_the_dark(
    portrait: tuple[material.U8, material.F32], alpha: material.F32
) -> None:
    picture, landmarks = portrait
    dim = np.asarray(picture * 0.4, np.uint8)
    assert not background.measure_tones(picture, landmarks, alpha).in_the_dark
    assert background.measure_tones(dim, landmarks, alpha).in_the_dark


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (BackgroundSpec("solid", "grey"), "solid:grey (as asked for)"),
        (BackgroundSpec("gradient", "#1A2B3C"), "gradient:#1A2B3C (as asked for)"),
        (BackgroundSpec("blur"), "blur (as asked for)"),
    ],
)
def test_a_background_that_was_asked_for_is_told_once(spec: BackgroundSpec, told: str) -> None:
    assert background.choose(spec, DARK_FACE).told == told


def test_auto_never_takes_white_unless_it_is_an_option() -> None:
    assert "white" not in background.AUTO_OPTIONS
    asked = background.choose(BackgroundSpec("auto", options=("white",)), DARK_FACE)
    assert asked.spec.colour == "white"


@pytest.mark.parametrize(
    ("colour", "tones", "note"),
    [
        ("#B9AFA6", LIGHT_FACE, BackgroundNote.CLOSE_TO_SKIN),
        (
            "off-white",
            SubjectTones((60, 12, 16), None, (95, 0, 2)),
            BackgroundNote.CLOSE_TO_CLOTHING,
        ),
        ("charcoal", SubjectTones((60, 12, 16), (24, 0, 0), None), BackgroundNote.CLOSE_TO_HAIR),
    ],
)
def test_a_background_too_close_to_the_person_is_told(
    colour: str, tones: SubjectTones, note: BackgroundNote
) -> None:
    assert note in background.warnings_for(colour, tones)
    assert background.warnings_for("grey", LIGHT_FACE) == ()


def test_a_gradient_is_judged_by_what_is_behind_the_head() -> None:
    # Its edge is 14 L* from the skin, its middle four.
    tones = SubjectTones(skin=(68.0, 14.0, 18.0), hair=None, clothing=None)
    edge = BackgroundSpec(kind="solid", colour="grey")
    glow = BackgroundSpec(kind="gradient", colour="grey")
    assert BackgroundNote.CLOSE_TO_SKIN not in background.choose(edge, tones).notes
    assert BackgroundNote.CLOSE_TO_SKIN in background.choose(glow, tones).notes


def test_clothing_is_compared_with_what_of_a_gradient_is_beside_the_shoulders() -> None:
    suit = SubjectTones(skin=(62.0, 14.0, 18.0), hair=None, clothing=background.lab_of("navy"))
    glow = background.choose(BackgroundSpec("gradient", "navy"), suit)
    assert glow.notes == (BackgroundNote.CLOSE_TO_CLOTHING,)
    # In front of its middle, 10 L* lighter, the same colour would do.
    lighter = replace(suit, clothing=background.gradient_centre(BackgroundSpec(colour="navy")))
    assert background.choose(BackgroundSpec("gradient", "navy"), lighter).notes == ()


@pytest.mark.parametrize("size", [(640, 640), (1138, 640), (512, 640), (214, 640)])
def test_a_gradient_has_the_colour_asked_for_in_the_corners_and_along_the_edges(
    size: tuple[int, int],
) -> None:
    asked = np.array(background.lab_of("#1A6E4A"))
    drawn = backdrop.render(BackgroundSpec("gradient", "#1A6E4A"), size, seed=1)
    lab = to_lab(drawn).astype(np.float64)
    for corner in (lab[:8, :8], lab[:8, -8:], lab[-8:, :8], lab[-8:, -8:]):
        assert np.abs(corner.mean(axis=(0, 1)) - asked).max() < 0.5
    for edge in (lab[:4], lab[-4:], lab[:, :4], lab[:, -4:]):
        assert np.abs(edge[..., 0].mean() - asked[0]) < 1.5


def cut_out() -> tuple[rendering.Person, Crop]:
    """Return the astronaut, cut out, and her square."""
    frame = material.astronaut_frame()
    image, _ = material.astronaut_portrait()
    alpha = np.asarray(np.rint(material.person_alpha() * 255), np.uint8)
    person = rendering.cut_person(image, alpha, frame, ToneSpec(), "none")
    return person, plan_crop(frame, person.alpha, 1.0)


@pytest.mark.parametrize("what", ["skin", "clothing"])
def test_a_picture_of_the_colour_of_the_person_is_told(what: str) -> None:
    person, square = cut_out()
    tones: dict[str, tuple[float, float, float] | None] = {
        "skin": person.tones.skin,
        "clothing": person.tones.clothing,
    }
    colour = tones[what]
    assert colour is not None
    picture = np.tile(from_lab(np.array([[colour]], np.float32)), (90, 120, 1))
    notes = rendering.ground_notes(person, square, BackgroundSpec("image", image=picture))
    assert BackgroundNote(f"BACKGROUND_CLOSE_TO_{what.upper()}") in notes
    green = BackgroundSpec("image", image=material.plain((20, 90, 40)))
    assert rendering.ground_notes(person, square, green) == ()


def test_a_blurred_scene_of_the_colour_of_the_skin_is_told() -> None:
    person, square = cut_out()
    skin = from_lab(np.array([[person.tones.skin]], np.float32))[0, 0]
    wall = np.where(person.alpha[..., None] > 0, person.scene, skin).astype(np.uint8)
    other = np.where(person.alpha[..., None] > 0, person.scene, (20, 90, 40)).astype(np.uint8)
    blur = BackgroundSpec("blur")
    before = replace(person, scene=wall)
    assert BackgroundNote.CLOSE_TO_SKIN in rendering.ground_notes(before, square, blur)
    assert rendering.ground_notes(replace(person, scene=other), square, blur) == ()


def test_a_picture_with_grain_of_its_own_gets_only_what_is_missing() -> None:
    person, square = cut_out()
    person = replace(person, grain=grain.Grain(2.0, 1.0))
    rng = np.random.default_rng(0)
    for sigma, wanted in ((4.0, 4.0), (1.2, 2.0), (0.0, 2.0)):
        noisy = 128 + sigma * rng.standard_normal((640, 640, 1)) + np.zeros(3)
        spec = BackgroundSpec("image", image=np.asarray(np.rint(noisy), np.uint8))
        done = rendering.compose_crop(person, square, (640, 640), spec, 1, 0.0)
        # The astronaut's square has background in the upper corners.
        assert grain.measure(done[:200, :160]).fine == pytest.approx(wanted, rel=0.25)


def test_a_blurred_scene_keeps_its_colours_but_nothing_recognisable(
    portrait: tuple[material.U8, material.F32], alpha: material.F32
) -> None:
    scene, _ = portrait
    drawn = backdrop.render(BackgroundSpec("blur"), (640, 640), scene=scene, alpha=alpha, seed=2)
    assert backdrop.recognisability(drawn) < 1.5 < backdrop.recognisability(scene)
    outside = alpha < 0.01
    assert np.abs(drawn[outside].mean(axis=0) - scene[outside].mean(axis=0)).max() < 25


def test_the_person_is_gone_from_the_blurred_scene(alpha: material.F32) -> None:
    red = material.over(material.plain((220, 20, 20)), alpha, material.plain((90, 120, 150)))
    drawn = backdrop.render(BackgroundSpec("blur"), (320, 320), scene=red, alpha=alpha)
    assert np.abs(drawn.astype(int) - (90, 120, 150)).max() < 12


def test_a_shallow_blur_is_refused() -> None:
    with pytest.raises(ValueError, match="blur_radius"):
        BackgroundSpec("blur", blur_radius=0.01)


def test_a_wide_crop_of_the_blurred_scene_continues_the_square_one(alpha: material.F32) -> None:
    ramp = np.linspace(40, 200, 640).astype(np.uint8)
    scene = np.repeat(np.repeat(ramp[None, :, None], 640, axis=0), 3, axis=2)
    square = backdrop.render(BackgroundSpec("blur"), (640, 640), scene=scene, alpha=alpha * 0)
    wide = backdrop.render(
        BackgroundSpec("blur"),
        (960, 640),
        scene=scene,
        alpha=alpha * 0,
        crop=Crop(-160, 0, 800, 640, 1.5),
    )
    same = np.abs(wide[:, 160:800].astype(int) - square.astype(int))
    assert same.mean() < 2


def test_a_gradient_is_lightest_behind_the_head_and_free_of_bands() -> None:
    drawn = backdrop.render(BackgroundSpec("gradient", colour="charcoal"), (1024, 1024), seed=1)
    centre = drawn[380:470, 460:560].mean()
    corner = drawn[-60:, -60:].mean()
    assert centre > corner + 15
    # Bands are long runs of one value; dither breaks them up.
    row = drawn[512, :, 0].astype(int)
    longest = max(len(run) for run in np.split(row, np.flatnonzero(np.diff(row)) + 1))
    assert longest < 40


def test_a_given_image_covers_without_being_stretched() -> None:
    circle = np.zeros((300, 600, 3), np.uint8)
    cv2.circle(circle, (300, 150), 100, (255, 255, 255), -1)
    drawn = backdrop.render(BackgroundSpec("image", image=circle), (400, 400))
    ys, xs = np.nonzero(drawn[..., 0] > 128)
    assert drawn.shape == (400, 400, 3)
    assert abs((ys.max() - ys.min()) - (xs.max() - xs.min())) <= 2


def test_a_long_strip_covers_without_being_scaled_as_a_whole() -> None:
    strip = np.zeros((64, 16384, 3), np.uint8)
    strip[:, 8192 - 20 : 8192 + 20] = 255
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    drawn = backdrop.render(BackgroundSpec("image", image=strip), (1600, 1600))
    # As a whole it would be 409600 x 1600: 1.9 million kilobytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000
    bright = np.flatnonzero(drawn[800, :, 0] > 128)
    assert abs((bright[0] + bright[-1]) / 2 - 799.5) <= 1
    assert abs(bright.size - 40 * 25) <= 2


def test_a_glow_never_darkens_a_colour_that_is_light_already() -> None:
    white = backdrop.render(BackgroundSpec("gradient", colour="white"), (320, 320))
    assert white[130:140, 155:165].mean() >= white[-10:, -10:].mean() > 252


@pytest.mark.parametrize("strip", [12, 0])
def test_a_blurred_scene_of_which_next_to_nothing_is_seen_is_not_black(strip: int) -> None:
    alpha = np.ones((640, 640), np.float32)
    alpha[:strip] = 0
    scene = material.plain((90, 120, 150))
    drawn = backdrop.render(BackgroundSpec("blur"), (320, 320), scene=scene, alpha=alpha)
    assert np.abs(drawn.astype(int) - (90, 120, 150)).max() < 6


def test_unknown_colours_are_refused_by_name() -> None:
    for colour in ("mauve", "#12", "#GGGGGG", "808080", "#+12345", "#1_2_34", "#12345６"):
        with pytest.raises(ValueError, match="colour"):
            BackgroundSpec("solid", colour=colour)


def test_auto_must_be_chosen_before_it_is_drawn() -> None:
    with pytest.raises(ValueError, match="choose"):
        backdrop.render(BackgroundSpec("auto"), (10, 10))
