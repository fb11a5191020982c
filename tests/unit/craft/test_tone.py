from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from headshot.imaging import retouch, skin, tone
from headshot.imaging.colorimetry import (
    correlated_colour_temperature,
    ita_degrees,
    ita_group,
    to_lab,
)
from headshot.imaging.colour import linear_to_srgb, srgb_to_linear
from headshot.imaging.face import skin_patches
from headshot.imaging.illuminant import estimate_cast
from headshot.imaging.retouch import RetouchLevel
from headshot.imaging.tone import ToneSpec

from tests.unit.craft import material

Portrait = tuple[material.U8, material.F32]


def lit_by(image: material.U8, gains: tuple[float, float, float]) -> material.U8:
    """Return the picture under another light, exact in linear light."""
    return linear_to_srgb(srgb_to_linear(image) * np.array(gains, np.float32))


class TestSkin:
    @pytest.mark.parametrize(
        ("lightness", "b", "ita", "group"),
        [(70, 15, 53.1, "light"), (50, 18, 0.0, "brown"), (30, 12, -59.0, "dark")],
    )
    def test_ita_and_its_groups_are_those_of_the_literature(
        self, lightness: float, b: float, ita: float, group: str
    ) -> None:
        assert ita_degrees(lightness, b) == pytest.approx(ita, abs=0.1)
        assert ita_group(ita_degrees(lightness, b)) == group

    def test_a_lighter_copy_reads_as_a_positive_change(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        before = skin.read_skin(image, landmarks)
        after = skin.read_skin(lit_by(image, (1.2, 1.2, 1.2)), landmarks)
        change = skin.change_between(before, after)
        assert change.delta_ita > 3
        assert change.delta_lightness > 3
        assert abs(change.delta_hue) < 3

    def test_a_greyscale_face_reads_by_its_lightness_and_has_no_hue_to_change(
        self, portrait: Portrait
    ) -> None:
        image, landmarks = portrait
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        dark, light = (lit_by(grey, (gain, gain, gain)) for gain in (0.35, 0.45))
        tinted = lit_by(light, (0.99, 1.0, 1.0))
        before = skin.read_skin(dark, landmarks)
        assert before.lightness < 50 < skin.read_skin(light, landmarks).lightness
        for after in (light, tinted):
            change = skin.change_between(before, skin.read_skin(after, landmarks))
            assert 5 < change.delta_ita < 30
            assert change.delta_hue == 0

    @pytest.mark.parametrize(("blue", "yellower"), [(0.8, True), (1.25, False)])
    def test_a_yellower_face_reads_as_a_positive_change_of_hue(
        self, portrait: Portrait, blue: float, yellower: bool
    ) -> None:
        image, landmarks = portrait
        tinted = skin.read_skin(lit_by(image, (1.0, 1.0, blue)), landmarks)
        change = skin.change_between(skin.read_skin(image, landmarks), tinted)
        assert abs(change.delta_hue) > 2
        assert (change.delta_hue > 0) == yellower

    @pytest.mark.parametrize("kept_rows", [0, 12])
    def test_a_matte_that_misses_the_face_does_not_decide_its_colour(
        self, portrait: Portrait, kept_rows: int
    ) -> None:
        image, landmarks = portrait
        alpha = np.zeros(image.shape[:2], np.float32)
        top = int(np.flatnonzero(skin_patches(landmarks, (640, 640)).any(axis=1))[0])
        alpha[top : top + kept_rows] = 1
        told = skin.read_skin(image, landmarks, alpha)
        assert told == skin.read_skin(image, landmarks)

    def test_a_face_outside_the_picture_is_refused(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        with pytest.raises(ValueError, match="outside"):
            skin.read_skin(image, landmarks + 5000)


class TestTone:
    def test_the_skin_budget_holds_for_a_greyscale_photo(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        dim = lit_by(grey, (0.55, 0.55, 0.55))
        _, report = tone.adjust(dim, landmarks)
        assert 0 < abs(report.skin.delta_ita) <= 2.3
        assert abs(report.skin.delta_lightness) < 3

    def test_a_good_photo_is_hardly_changed(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        _, report = tone.adjust(image, landmarks)
        assert abs(report.stops) < 0.05
        assert abs(report.skin.delta_ita) <= 2.3

    def test_a_bright_photo_is_darkened_by_a_third_of_the_stops_at_most(
        self, portrait: Portrait
    ) -> None:
        image, landmarks = portrait
        spec = ToneSpec(white_level=180, max_stops=0.3, white_balance=0, max_contrast=0)
        _, report = tone.adjust(
            lit_by(image, (1.5, 1.5, 1.5)), landmarks, spec=replace(spec, max_delta_ita=8)
        )
        assert report.scale == 1.0
        assert report.stops == pytest.approx(-0.1)

    def test_an_underexposed_photo_is_brightened_within_the_skin_budget(
        self, portrait: Portrait
    ) -> None:
        image, landmarks = portrait
        dark = lit_by(image, (0.3, 0.3, 0.3))
        out, report = tone.adjust(dark, landmarks)
        assert report.stops > 0.05
        assert out.mean() > dark.mean()
        assert abs(report.skin.delta_ita) <= ToneSpec().max_delta_ita_poor_light + 0.3

    @pytest.mark.parametrize("gains", [(1.18, 1.0, 0.75), (0.85, 1.0, 1.25)])
    def test_a_cast_is_reduced(self, portrait: Portrait, gains: tuple[float, float, float]) -> None:
        image, landmarks = portrait
        tinted = lit_by(image, gains)
        generous = ToneSpec(max_delta_ita=7.9, max_delta_ita_poor_light=8.0)
        out, report = tone.adjust(tinted, landmarks, spec=generous)
        before = estimate_cast(tinted, landmarks).strength
        assert estimate_cast(out, landmarks).strength < 0.85 * before
        assert abs(report.cct_after - 6504) < abs(report.cct_before - 6504)

    def test_balance_leaves_the_luminance_of_grey_as_it_is(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        spec = ToneSpec(max_stops=0, max_contrast=0, max_delta_ita=8, max_delta_ita_poor_light=8)
        _, report = tone.adjust(lit_by(image, (1.18, 1.0, 0.75)), landmarks, spec=spec)
        assert abs(report.gains[0] - report.gains[2]) > 0.1
        greys = np.arange(40, 200, dtype=np.uint8)
        after = srgb_to_linear(report.table[greys]) @ np.array([0.2126, 0.7152, 0.0722])
        assert np.mean(after / srgb_to_linear(greys)) == pytest.approx(1.0, abs=0.003)

    def test_a_green_cast_goes_even_where_the_skin_budget_allows_no_warmth(
        self, portrait: Portrait
    ) -> None:
        """The typology angle does not see green-magenta: it need not wait for the rest."""
        image, landmarks = portrait
        tinted = lit_by(image, (0.65, 1.0, 1.0))
        out, report = tone.adjust(tinted, landmarks)
        assert report.scale < 0.9
        before, after = skin.read_skin(tinted, landmarks), skin.read_skin(out, landmarks)
        assert after.a - before.a > 3
        assert abs(report.skin.delta_ita) <= ToneSpec().max_delta_ita + 0.3

    def test_a_person_darker_than_the_scene_is_brightened_within_the_strict_budget(
        self, portrait: Portrait, alpha: material.F32
    ) -> None:
        image, landmarks = portrait
        dark = lit_by(image, (0.12, 0.12, 0.12))
        backlit = np.where(alpha[..., None] > 0.5, dark, 235).astype(np.uint8)
        _, report = tone.adjust(backlit, landmarks, alpha)
        assert report.stops > 0
        assert 0 < report.skin.delta_ita <= ToneSpec().max_delta_ita + 0.3

    def test_a_team_gives_up_exposure_before_white_balance(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        dim = lit_by(image, (0.42, 0.35, 0.26))
        spec = replace(tone.for_team(ToneSpec()), max_delta_ita=4.0, max_delta_ita_poor_light=4.0)
        _, together = tone.adjust(dim, landmarks, spec=spec)
        _, alone = tone.adjust(dim, landmarks, spec=replace(spec, balance_first=False))
        target = spec.temperature
        assert abs(together.cct_after - target) < 200
        assert abs(together.cct_after - target) <= abs(alone.cct_after - target)
        assert abs(together.skin.delta_ita) <= 4.3

    def test_the_light_told_is_the_light_that_the_toned_picture_shows(
        self, photos: list[str]
    ) -> None:
        for name in photos:
            image, landmarks = material.photo(name)
            for spec in (ToneSpec(), tone.for_team(ToneSpec())):
                toned, report = tone.adjust(image, landmarks, spec=spec)
                shown = correlated_colour_temperature(estimate_cast(toned, landmarks).light)
                assert report.cct_after == pytest.approx(shown, abs=1), name

    def test_a_teams_light_is_measured_again_and_never_ends_further_off(
        self, photos: list[str]
    ) -> None:
        """Of a strong cast one look finds a part only."""
        team = tone.for_team(ToneSpec())
        nearer = []
        for name in photos:
            image, landmarks = material.photo(name)
            _, once = tone.adjust(image, landmarks, spec=replace(team, balance_passes=1))
            _, again = tone.adjust(image, landmarks, spec=team)
            off, less = (abs(report.cct_after - 6504) for report in (once, again))
            assert less <= off, name
            assert abs(again.skin.delta_ita) <= team.max_delta_ita + 0.3, name
            if off > 100 and less < 100:
                nearer.append(name)
        assert len(nearer) >= 2

    def test_exposure_does_not_look_at_the_skin(self, portrait: Portrait) -> None:
        """A darker complexion in the same light must get the same exposure."""
        image, landmarks = portrait
        mask = cv2.GaussianBlur(
            (skin.face_mask(landmarks, (640, 640)) / 255).astype(np.float32), (0, 0), 6
        )[..., None]
        darker = np.asarray(lit_by(image, (0.35, 0.3, 0.27)) * mask + image * (1 - mask), np.uint8)
        wide = ToneSpec(max_delta_ita=8, max_delta_ita_poor_light=8)
        _, one = tone.adjust(image, landmarks, spec=wide)
        _, other = tone.adjust(darker, landmarks, spec=wide)
        assert abs(one.stops - other.stops) < 0.05

    def test_the_table_gives_the_same_result_at_any_resolution(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        out, report = tone.adjust(lit_by(image, (0.5, 0.5, 0.4)), landmarks)
        again = tone.apply_table(lit_by(image, (0.5, 0.5, 0.4)), report.table)
        assert np.array_equal(out, again)
        steps = np.diff(report.table.astype(int), axis=0)
        assert steps.min() >= 0  # never reverses tones

    def test_highlights_roll_off_instead_of_clipping(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        free = ToneSpec(max_delta_ita=8, max_delta_ita_poor_light=8)
        out, _ = tone.adjust(lit_by(image, (0.4, 0.4, 0.4)), landmarks, spec=free)
        assert (out == 255).all(axis=-1).mean() < 0.005

    def test_a_person_in_the_dark_is_lifted_only_when_that_is_asked_for(
        self, portrait: Portrait, alpha: material.F32
    ) -> None:
        image, landmarks = portrait
        dark = lit_by(image, (0.25, 0.25, 0.25))
        backlit = np.where(alpha[..., None] > 0.5, dark, 235).astype(np.uint8)
        kept, report = tone.adjust(backlit, landmarks, alpha)
        lifted, other = tone.adjust(backlit, landmarks, alpha, ToneSpec(lift=True))
        assert report.stops < 0.3
        assert 1.0 < other.stops < 2.5
        assert other.skin.delta_ita > 8  # told, not hidden
        before = skin.read_skin(image, landmarks)
        truth = skin.read_skin(lifted, landmarks)
        assert abs(truth.lightness - before.lightness) < 12
        assert skin.read_skin(kept, landmarks).lightness < before.lightness - 25
        assert np.array_equal(tone.apply_table(backlit, other.table), lifted)

    @pytest.mark.parametrize("stops", [2, 4, 5])
    def test_lift_and_exposure_together_stay_within_what_a_phones_shadows_hold(
        self, portrait: Portrait, alpha: material.F32, stops: int
    ) -> None:
        image, landmarks = portrait
        dark = lit_by(image, (0.5**stops,) * 3)
        _, report = tone.adjust(dark, landmarks, alpha, ToneSpec(lift=True))
        assert 1.0 < report.stops <= 1.8 + 1e-6

    def test_a_well_lit_person_is_not_lifted(self, portrait: Portrait, alpha: material.F32) -> None:
        """A dark complexion has glints, eyes and cloth that are bright: it is no darkness."""
        image, landmarks = portrait
        mask = cv2.GaussianBlur(
            (skin.face_mask(landmarks, (640, 640)) / 255).astype(np.float32), (0, 0), 6
        )[..., None]
        darker = np.asarray(lit_by(image, (0.35, 0.3, 0.27)) * mask + image * (1 - mask), np.uint8)
        for picture in (image, darker):
            same, _ = tone.adjust(picture, landmarks, alpha)
            asked, _ = tone.adjust(picture, landmarks, alpha, ToneSpec(lift=True))
            assert np.array_equal(same, asked)

    def test_skin_tone_hardly_changes_over_the_real_photos_and_alike_in_every_group(
        self, photos: list[str]
    ) -> None:
        changes: dict[str, list[float]] = {}
        for name in photos:
            image, landmarks = material.photo(name)
            before = skin.read_skin(image, landmarks)
            toned, _ = tone.adjust(image, landmarks)
            done, _ = retouch.apply(toned, landmarks, RetouchLevel.STANDARD)
            delta = skin.change_between(before, skin.read_skin(done, landmarks)).delta_ita
            changes.setdefault(before.group, []).append(abs(delta))
        every = [value for group in changes.values() for value in group]
        assert np.median(every) <= 3
        assert max(every) <= 8
        medians = {group: float(np.median(values)) for group, values in changes.items()}
        worst = max(medians, key=lambda group: medians[group])
        others = [value for group, values in changes.items() if group != worst for value in values]
        assert medians[worst] - float(np.median(others)) <= 2, medians


class TestRetouch:
    def blotched(self) -> material.U8:
        """Return bare skin with weak red blotches a tenth of the face wide."""
        image = material.plain((205, 160, 138))
        rng = np.random.default_rng(5)
        noise = cv2.GaussianBlur(rng.standard_normal((640, 640)).astype(np.float32), (0, 0), 5)
        noise /= noise.std()
        out = image.astype(np.float32)
        out[..., 0] += 4 * noise
        out[..., 1] -= 3 * noise
        return np.asarray(np.clip(out, 0, 255), np.uint8)

    def blotch(self, image: material.U8, landmarks: material.F32) -> float:
        a = to_lab(image)[..., 1]
        band = cv2.GaussianBlur(a, (0, 0), 3) - cv2.GaussianBlur(a, (0, 0), 14)
        return float(band[skin_patches(landmarks, (640, 640)) > 0].std())

    def test_none_returns_the_picture_itself(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        out, report = retouch.apply(image, landmarks, "none")
        assert out is image
        assert report.texture_kept == 1

    def test_blotches_go_and_more_of_them_at_standard(self, portrait: Portrait) -> None:
        _, landmarks = portrait
        image = self.blotched()
        light, _ = retouch.apply(image, landmarks, "light")
        standard, _ = retouch.apply(image, landmarks, "standard")
        before = self.blotch(image, landmarks)
        assert self.blotch(light, landmarks) < 0.9 * before
        assert self.blotch(standard, landmarks) < 0.8 * before

    def test_pores_lines_and_freckles_stay(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        for level in ("light", "standard"):
            out, report = retouch.apply(image, landmarks, level)
            kept = skin.finest_texture(out, landmarks) / skin.finest_texture(image, landmarks)
            assert kept > 0.95
            assert report.texture_kept >= 0.90

    def test_a_mole_stays(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        marked = image.copy()
        x, y = np.rint(landmarks[3] + (-22, -30)).astype(int)
        cv2.circle(marked, (x, y), 3, (92, 60, 48), -1, cv2.LINE_AA)
        out, _ = retouch.apply(marked, landmarks, "standard")
        assert abs(int(out[y, x, 0]) - 92) < 12

    def test_eyes_mouth_hair_and_clothes_are_untouched(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        out, _ = retouch.apply(image, landmarks, "standard")
        for x, y in np.rint(landmarks[[0, 1]]).astype(int):
            eye = (slice(y - 4, y + 5), slice(x - 8, x + 9))
            assert np.abs(out[eye].astype(int) - image[eye]).max() <= 2
        assert np.array_equal(out[500:], image[500:])
        assert np.array_equal(out[:60], image[:60])

    @pytest.mark.parametrize("level", ["light", "standard"])
    def test_evening_out_glints_does_not_move_the_skin_tone(
        self, portrait: Portrait, level: str
    ) -> None:
        image, landmarks = portrait
        rng = np.random.default_rng(2)
        shiny = image.copy()
        patches = skin_patches(landmarks, (640, 640)) > 0
        spots = cv2.GaussianBlur(rng.random((640, 640)).astype(np.float32), (0, 0), 5)
        shiny[patches & (spots > np.percentile(spots[patches], 75))] = (250, 238, 228)
        for picture in (image, shiny):
            out, report = retouch.apply(picture, landmarks, level)
            assert report.strength > 0
            change = skin.change_between(
                skin.read_skin(picture, landmarks), skin.read_skin(out, landmarks)
            )
            assert abs(change.delta_ita) < 0.6  # two steps of 8 bit

    def test_the_over_smoothing_stop_halves_or_refuses(self, portrait: Portrait) -> None:
        image, landmarks = portrait
        _, free = retouch.apply(image, landmarks, "standard", min_texture=0.5)
        out, stopped = retouch.apply(image, landmarks, "standard", min_texture=0.99999)
        assert free.halvings == 0
        assert stopped.halvings > 0
        assert stopped.strength < free.strength
        assert stopped.texture_kept >= 0.99999 or out is image
