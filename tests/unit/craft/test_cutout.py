from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from headshot.imaging import compose, foreground, geometry, grain, light, matte
from headshot.imaging.colorimetry import to_lab
from headshot.imaging.enlarge import enlarged_block
from headshot.imaging.framing import Crop
from headshot.imaging.parts import Part

from tests.unit.craft import material


class TestMatte:
    def test_refining_recovers_hair_that_the_small_matte_lost(
        self, portrait: tuple[material.U8, material.F32]
    ) -> None:
        truth = material.person_alpha(1280)
        person, _ = material.astronaut_portrait(1280)
        dark = (person * 0.4).astype(np.uint8)
        image = material.over(dark, truth, material.plain((215, 220, 225), 1280))
        small = cv2.GaussianBlur(
            cv2.resize(truth, (256, 256), interpolation=cv2.INTER_AREA), (0, 0), 1.5
        )
        plainly = np.clip(cv2.resize(small, (1280, 1280), interpolation=cv2.INTER_CUBIC), 0, 1)
        refined = matte.refine_alpha(small, image)
        assert np.abs(refined - truth).mean() < 0.55 * np.abs(plainly - truth).mean()

    def test_refining_leaves_the_certain_parts_exact(self) -> None:
        truth = material.person_alpha(640, strands=False)
        person, _ = material.astronaut_portrait(640)
        image = material.over(person, truth, material.plain((40, 90, 60)))
        refined = matte.refine_alpha((truth * 255).astype(np.uint8), image)
        far = cv2.erode((truth == 0).astype(np.uint8), np.ones((61, 61), np.uint8)) > 0
        deep = cv2.erode((truth == 1).astype(np.uint8), np.ones((61, 61), np.uint8)) > 0
        assert refined[far].max() == 0
        assert refined[deep].min() == 1
        assert refined.dtype == np.float32
        assert refined.min() >= 0
        assert refined.max() <= 1

    def test_cleaning_drops_another_person_and_fills_a_pinhole(self) -> None:
        alpha = np.zeros((512, 512), np.uint8)
        cv2.circle(alpha, (300, 300), 120, 255, -1)
        cv2.circle(alpha, (300, 300), 6, 0, -1)
        cv2.circle(alpha, (60, 60), 30, 255, -1)
        kept = matte.clean(alpha)
        assert kept[60, 60] == 0
        assert kept[300, 300] == 255
        assert kept[300, 400] == 255

    def test_cleaning_keeps_the_one_whose_face_is_given_although_smaller(self) -> None:
        alpha = np.zeros((512, 512), np.uint8)
        cv2.circle(alpha, (340, 300), 140, 255, -1)
        cv2.circle(alpha, (90, 90), 60, 255, -1)
        kept = matte.clean(alpha, seed=np.array([90, 90]))
        assert kept[90, 90] == 255
        assert kept[300, 340] == 0

    def test_the_face_is_looked_for_at_its_place_in_a_wide_picture(self) -> None:
        alpha = np.zeros((300, 500), np.uint8)
        cv2.circle(alpha, (150, 180), 100, 255, -1)
        cv2.circle(alpha, (420, 60), 40, 255, -1)
        kept = matte.clean(alpha, seed=np.array([420, 60]))
        assert kept[60, 420] == 255
        assert kept[180, 150] == 0

    def test_a_gap_of_a_hundredth_of_the_picture_stays_open(self) -> None:
        alpha = np.zeros((512, 512), np.uint8)
        cv2.circle(alpha, (256, 256), 160, 255, -1)
        cv2.circle(alpha, (256, 256), 29, 0, -1)  # As between an arm on the hip and the body.
        kept = matte.clean(alpha)
        assert kept[256, 256] == 0
        assert kept[256, 360] == 255

    def test_a_place_amid_the_subject_is_doubted_as_before_unless_it_is_partly_ruled_out(
        self,
    ) -> None:
        brim = np.zeros((512, 512), np.uint8)
        cv2.circle(brim, (256, 256), 160, 255, -1)
        cv2.circle(brim, (256, 256), 50, 80, -1)
        gap = brim.copy()
        cv2.circle(gap, (256, 256), 15, 0, -1)
        assert np.array_equal(matte.clean(brim), brim)
        assert matte.clean(gap)[230:283, 230:283].max() == 0

    def test_where_the_matte_is_sure_and_decided_colour_has_no_say(self) -> None:
        small = np.zeros((128, 128), np.uint8)
        small[32:96, 32:96] = 255
        rng = np.random.default_rng(2)
        colours = cv2.resize(rng.integers(0, 256, (16, 16, 3), np.uint8), (256, 256))
        decided = np.ones_like(small)
        held = matte.draw(matte.fit(small, colours, decided=decided), colours)
        inside, outside = np.zeros((256, 256), bool), np.ones((256, 256), bool)
        inside[68:188, 68:188], outside[60:196, 60:196] = True, False
        assert held[inside].min() > 0.99
        assert held[outside].max() < 0.01
        free = matte.draw(matte.fit(small, colours), colours)
        assert free[inside].min() < 0.9

    def test_an_empty_matte_stays_empty(self) -> None:
        assert matte.clean(np.zeros((64, 64), np.uint8)).max() == 0


class TestForeground:
    def composed(self) -> tuple[material.U8, material.U8, material.F32]:
        alpha = material.person_alpha(640)
        fore = material.plain((70, 50, 40))
        image = material.over(fore, alpha, material.plain((60, 190, 90)))
        return image, fore, alpha

    def test_the_old_background_is_gone_from_half_covered_pixels(self) -> None:
        image, fore, alpha = self.composed()
        found = foreground.estimate(image, alpha)
        soft = (alpha > 0.15) & (alpha < 0.9)
        wrong = np.abs(to_lab(found) - to_lab(fore)).sum(axis=-1)[soft].mean()
        before = np.abs(to_lab(image) - to_lab(fore)).sum(axis=-1)[soft].mean()
        assert wrong < 0.15 * before

    def test_estimated_along_the_edge_only_the_colours_are_those_of_the_whole(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image, _, alpha = self.composed()
        found = foreground.estimate(image, alpha)
        with monkeypatch.context() as patch:
            patch.setattr(foreground, "_fuse_edge", foreground._fuse)
            whole = foreground.estimate(image, alpha)
        near = cv2.dilate((alpha > 0.004).astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
        assert np.array_equal(found[near], whole[near])

    def test_solid_pixels_keep_their_colour_exactly(
        self, portrait: tuple[material.U8, material.F32], alpha: material.F32
    ) -> None:
        image, _ = portrait
        found = foreground.estimate(image, alpha)
        solid = alpha >= 0.996
        assert np.array_equal(found[solid], image[solid])

    def test_subject_colour_is_carried_outwards_for_later_resizing(self) -> None:
        image, fore, alpha = self.composed()
        found = foreground.estimate(image, alpha)
        ring = (cv2.dilate(alpha, np.ones((9, 9), np.uint8)) > 0.5) & (alpha == 0)
        assert np.abs(found[ring].astype(int) - fore[ring]).mean() < 12


class TestComposite:
    def test_full_and_empty_pixels_are_copied(
        self, portrait: tuple[material.U8, material.F32], alpha: material.F32
    ) -> None:
        image, _ = portrait
        ground = material.plain((128, 128, 128))
        out = compose.composite(image, alpha, ground, wrap=0)
        assert np.array_equal(out[alpha == 0], ground[alpha == 0])
        assert np.array_equal(out[alpha >= 0.999], image[alpha >= 0.999])

    def test_half_covered_pixels_lie_between_coded_and_linear_blend(self) -> None:
        alpha = np.full((64, 64), 0.5, np.float32)
        black, white = material.plain((0, 0, 0), 64), material.plain((255, 255, 255), 64)
        coded = compose.composite(black, alpha, white, wrap=0, linear=0.0)[0, 0, 0]
        physical = compose.composite(black, alpha, white, wrap=0, linear=1.0)[0, 0, 0]
        mixed = compose.composite(black, alpha, white, wrap=0, linear=0.5)[0, 0, 0]
        assert coded == 128
        assert physical == 188
        assert coded < mixed < physical

    def test_sizes_that_differ_are_refused(self) -> None:
        with pytest.raises(ValueError, match="sizes differ"):
            compose.composite(
                material.plain((0, 0, 0), 64),
                np.zeros((32, 64), np.float32),
                material.plain((0,) * 3, 64),
            )

    def test_a_crop_beyond_the_canvas_is_empty_there(
        self, portrait: tuple[material.U8, material.F32], alpha: material.F32
    ) -> None:
        image, _ = portrait
        colours, matte_ = compose.place(
            image, alpha, Crop(-100, 0, 740, 472.5, 16 / 9), (1280, 720)
        )
        assert colours.shape == (720, 1280, 3)
        assert matte_[:, :140].max() == 0
        assert matte_[400:600, 620:660].min() > 0.9

    def test_placing_at_native_scale_copies_pixels(
        self, portrait: tuple[material.U8, material.F32], alpha: material.F32
    ) -> None:
        image, _ = portrait
        colours, matte_ = compose.place(image, alpha, Crop(20, 10, 620, 610, 1.0), (600, 600))
        assert np.array_equal(colours, image[10:610, 20:620])
        assert np.array_equal(matte_, alpha[10:610, 20:620])


class TestLight:
    def test_the_middle_of_the_face_is_untouched(
        self, portrait: tuple[material.U8, material.F32], alpha: material.F32
    ) -> None:
        image, landmarks = portrait
        lit = light.match(image, alpha, material.plain((250, 240, 230)))
        x, y = np.rint(landmarks[2]).astype(int)
        assert np.array_equal(
            lit[y - 40 : y + 40, x - 40 : x + 40], image[y - 40 : y + 40, x - 40 : x + 40]
        )

    def test_a_bright_ground_brightens_the_rim_and_a_dark_one_does_not(
        self, alpha: material.F32
    ) -> None:
        subject = material.plain((90, 80, 75))
        rim = (alpha > 0.98) & (cv2.erode(alpha, np.ones((9, 9), np.uint8)) < 0.9)
        bright = light.match(subject, alpha, material.plain((245, 245, 245)))[rim].mean()
        dark = light.match(subject, alpha, material.plain((30, 30, 35)))[rim].mean()
        assert bright > subject[0, 0].mean() + 2
        assert dark <= subject[0, 0].mean()


class TestGrain:
    def noisy(self, sigma: float, seed: int = 1) -> material.U8:
        rng = np.random.default_rng(seed)
        flat = np.full((640, 640, 1), 120.0) + rng.standard_normal((640, 640, 1)) * sigma
        return np.asarray(np.clip(np.repeat(flat, 3, axis=2), 0, 255), np.uint8)

    @pytest.mark.parametrize("sigma", [1.0, 3.0])
    def test_the_strength_of_known_noise_is_found(self, sigma: float) -> None:
        assert grain.measure(self.noisy(sigma)).fine == pytest.approx(sigma, rel=0.2)

    def test_the_background_gets_the_grain_of_the_subject(self) -> None:
        wanted = grain.measure(self.noisy(2.5))
        out = grain.match(material.plain((128, 128, 128)), wanted, seed=4)
        got = grain.measure(out)
        assert got.fine == pytest.approx(wanted.fine, rel=0.25)
        assert abs(float(out.mean()) - 128) < 0.1

    def test_a_clean_subject_leaves_the_background_clean(self) -> None:
        ground = material.plain((128, 128, 128))
        assert grain.match(ground, grain.measure(material.plain((120, 110, 100))), seed=4) is ground

    @pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (250, 250, 250), (3, 3, 3)])
    def test_grain_keeps_the_level_of_a_ground_near_white_or_black(
        self, colour: tuple[int, int, int]
    ) -> None:
        out = grain.match(material.plain(colour), grain.Grain(6.0, 3.0), seed=4)
        assert abs(float(out.mean()) - colour[0]) < 0.1

    def test_the_same_seed_gives_the_same_grain(self) -> None:
        wanted, ground = grain.Grain(2.0, 1.0), material.plain((128, 128, 128))
        first = grain.match(ground, wanted, seed=4)
        assert np.array_equal(first, grain.match(ground, wanted, seed=4))
        assert not np.array_equal(first, grain.match(ground, wanted, seed=5))


@pytest.mark.parametrize(
    ("small", "large"),
    [((512, 512), (2048, 2048)), ((384, 512), (1152, 1536)), ((512, 341), (3000, 1998))],
)
def test_a_block_of_an_enlarged_map_is_that_part_of_the_whole(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    random = np.random.default_rng(4)
    map_ = cv2.GaussianBlur(random.random((small[1], small[0], 4)).astype(np.float32), (0, 0), 3)
    whole = cv2.resize(map_, large, interpolation=cv2.INTER_LINEAR)
    for _ in range(20):
        x0, x1 = sorted(random.choice(large[0] + 1, 2, replace=False))
        y0, y1 = sorted(random.choice(large[1] + 1, 2, replace=False))
        block = enlarged_block(map_, large, (int(x0), int(y0), int(x1), int(y1)))
        # A warp rounds its coordinates to 1/32 of a sample.
        np.testing.assert_allclose(block, whole[y0:y1, x0:x1], atol=4e-3)


@pytest.mark.parametrize("size", [(640, 640), (90, 61), (1501, 1999)])
def test_a_matte_drawn_in_parts_is_the_matte_drawn_at_once(size: tuple[int, int]) -> None:
    random = np.random.default_rng(5)
    guide = cv2.resize(random.integers(0, 256, (40, 30, 3), np.uint8), size)
    rough = np.clip(
        cv2.resize(random.random((9, 7)).astype(np.float32), (120, 160)) * 2 - 0.5, 0, 1
    )
    fitted = matte.fit(np.asarray(rough, np.float32), guide)
    drawn = matte.draw(fitted, guide)
    assert np.array_equal(matte.draw(fitted, guide, _backwards), drawn)
    levels = matte.draw_levels(fitted, guide, _backwards)
    assert np.array_equal(levels, np.rint(drawn * 255).astype(np.uint8))
    parted = matte.fit(np.asarray(rough, np.float32), guide, side_by_side=_backwards)
    assert np.array_equal(parted.coefficients, fitted.coefficients)


def _backwards(parts: Sequence[Part]) -> None:
    """Do parts in an order that no part may depend on."""
    for part in reversed(parts):
        part()


def test_a_picture_that_was_studied_before_its_matte_was_known_fits_the_same() -> None:
    image, _ = material.astronaut_portrait()
    small = np.asarray(np.rint(material.person_alpha() * 255), np.uint8)[::4, ::4].copy()
    one, other = matte.fit(small, image), matte.fit(small, matte.study(image))
    assert np.array_equal(one.coefficients, other.coefficients)
    assert np.array_equal(one.unsure, other.unsure)
    # The small picture may be had from elsewhere: the network is shown the same one.
    shrunk = geometry.resize(image, matte.studied_size(*image.shape[1::-1]))
    third = matte.fit(small, matte.study(image, shrunk=shrunk))
    assert np.array_equal(one.coefficients, third.coefficients)
