from __future__ import annotations

import cv2
import numpy as np
import pytest
from headshot.imaging import framing, framing_model
from headshot.imaging.framing import EdgeTouch, FrameNote, FramingSpec, PortraitFrame

from tests.unit.craft import material


def landmarks_at(
    x: float, y: float, unit: float, tilt: float = 0.0
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return a frontal face of scale `unit` with its eyes' midpoint at (x, y)."""
    base = np.array([[-0.46, 0], [0.46, 0], [0, 0.55], [-0.38, 1.0], [0.38, 1.0]]) * unit
    angle = np.radians(tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(base @ turn.T + (x, y), np.float32)


FREE = EdgeTouch(top=False, left=None, right=None, crown=600.0)


def wide_head(frame: PortraitFrame) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a head, uint8 [640, 640], without a body, and its half width and height."""
    x, y, s = *frame.face.eyes, frame.face.scale
    alpha = np.zeros((640, 640), np.uint8)
    axes = (round(1.45 * s), round(1.9 * s))
    cv2.ellipse(alpha, (round(x), round(y)), axes, 0, 0, 360, 255, -1)
    return alpha, axes


def photo_top(frame: PortraitFrame, landmarks: np.ndarray) -> float:
    """Return the canvas row at which the photo begins above the face."""
    return float(frame.matrix[1] @ (float(landmarks[:2, 0].mean()), 0.0, 1.0))


@pytest.mark.parametrize("eyes", [390.0, 420.0, 450.0])
def test_hair_that_ends_at_the_photos_top_is_not_cut_again(eyes: float) -> None:
    points = landmarks_at(500, eyes, 150)
    touch = EdgeTouch(top=True, left=None, right=None, crown=0.0)
    frame = framing.plan_portrait(points, None, (1000, 1200), touch=touch)
    assert photo_top(frame, points) == pytest.approx(0, abs=6)


def test_a_team_keeps_its_eye_line_where_hair_ends_at_the_photos_top() -> None:
    points = landmarks_at(500, 450, 150)
    touch = EdgeTouch(top=True, left=None, right=None, crown=0.0)
    spec = FramingSpec(hold=8.0)
    frame = framing.plan_portrait(points, None, (1000, 1200), spec, touch=touch)
    assert frame.face.eyes[1] / 640 == pytest.approx(spec.eye_line, abs=0.01)
    assert photo_top(frame, points) < -6


@pytest.mark.parametrize("aspect", ["1:1", "4:5", "2:3"])
def test_no_strip_of_ground_is_shown_under_a_bust_that_the_photo_cuts(aspect: str) -> None:
    # A tilted head that fills a photo which ends just below the chin.
    points = np.array([[389, 545], [621, 515], [525, 665], [433, 765], [639, 739]], np.float32)
    touch = EdgeTouch(top=False, left=None, right=912.0, crown=28.0)
    frame = framing.plan_portrait(points, None, (1024, 1024), touch=touch)
    face = frame.face
    alpha = np.zeros((640, 640), np.float32)
    axes = (round(1.05 * face.scale), round(1.75 * face.scale))
    middle = (round(face.eyes[0]), round(face.eyes[1]))
    cv2.ellipse(alpha, middle, axes, 0, 0, 360, 1.0, -1)
    alpha[round(face.chin_y) :, 60:] = 1.0
    alpha = framing.limit_to_photo(alpha, frame)
    last = int(np.flatnonzero(alpha[:, middle[0]] > 0.5)[-1])
    assert last < 639
    assert framing.plan_crop(frame, alpha, aspect).y1 <= last + 1.0


def test_a_roomy_photo_gets_exactly_the_composition_asked_for() -> None:
    spec = FramingSpec(eye_line=0.35, head_height=0.42)
    frame = framing.plan_portrait(landmarks_at(1000, 1000, 150), None, (2000, 3000), spec)
    assert frame.face.eyes[1] / 640 == pytest.approx(0.35, abs=1e-3)
    assert frame.face.head_height / 640 == pytest.approx(0.42, rel=1e-3)
    assert frame.face.eyes[0] / 640 == pytest.approx(0.5, abs=0.01)
    assert frame.visible == pytest.approx(1.0, abs=0.005)
    assert frame.notes == ()


def test_a_team_of_roomy_photos_shares_eye_line_and_head_size_within_two_percent() -> None:
    people = [
        framing.plan_portrait(landmarks_at(x, y, unit, tilt), None, (2400, 3200))
        for x, y, unit, tilt in ((1200, 1100, 140, 0), (1000, 1300, 180, 4), (1300, 900, 110, -6))
    ]
    heads = [f.face.head_height for f in people]
    eyes = [f.face.eyes[1] for f in people]
    assert max(heads) / min(heads) < 1.02
    assert (max(eyes) - min(eyes)) / 640 < 0.02


@pytest.mark.parametrize("tilt", [-12.0, -5.0, 7.0, 14.0])
def test_a_tilted_head_comes_out_level(tilt: float) -> None:
    frame = framing.plan_portrait(landmarks_at(1000, 1000, 120, tilt), None, (2000, 2600))
    assert abs(frame.face.tilt) < 0.2


def test_a_tilt_beyond_the_limit_is_left_in_part_and_told() -> None:
    frame = framing.plan_portrait(landmarks_at(1000, 1000, 120, 30), None, (2000, 2600))
    assert frame.face.tilt == pytest.approx(15, abs=0.5)
    assert FrameNote.EYES_NOT_LEVEL in frame.notes


def test_no_photo_edge_crosses_the_shoulders_where_the_body_fills_the_photo() -> None:
    frame = framing.plan_portrait(landmarks_at(512, 420, 210), None, (1024, 1024))
    below = round(frame.face.chin_y)
    covered = frame.coverage()[below : frame.canvas - 1]
    assert covered.min() == 255
    assert FrameNote.HEAD_LARGER_THAN_ASKED in frame.notes


def test_hair_cut_by_the_photo_never_gets_background_above_it() -> None:
    cut = EdgeTouch(top=True, left=None, right=None, crown=0.0)
    frame = framing.plan_portrait(landmarks_at(500, 160, 120), None, (1000, 1400), touch=cut)
    middle = round(frame.face.eyes[0])
    assert frame.coverage()[2, middle - 60 : middle + 60].min() == 255
    assert FrameNote.PHOTO_TOO_TIGHT_TOP in frame.notes


def test_whole_hair_near_the_top_gets_its_margin_from_the_background() -> None:
    near = EdgeTouch(top=False, left=None, right=None, crown=6.0)
    frame = framing.plan_portrait(landmarks_at(500, 230, 120), None, (1000, 1400), touch=near)
    scale = float(np.hypot(frame.matrix[0, 0], frame.matrix[1, 0]))
    crown_row = frame.face.eyes[1] - scale * (230 - 6)
    assert crown_row >= 0.045 * 640
    assert FrameNote.BACKGROUND_EXTENDED in frame.notes


def test_landmarks_that_are_no_face_are_refused() -> None:
    with pytest.raises(ValueError, match="five finite points"):
        framing.plan_portrait(np.full((5, 2), np.nan), None, (100, 100))
    with pytest.raises(ValueError, match="coincide"):
        framing.plan_portrait(np.full((5, 2), 30.0), None, (100, 100))


def test_the_photos_edges_lie_half_a_pixel_beyond_the_middles_of_its_outer_pixels() -> None:
    twice = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]])
    quad = framing_model.photo_quad((100, 50), twice)
    assert quad.tolist() == [[-0.5, -0.5], [199.5, -0.5], [199.5, 99.5], [-0.5, 99.5]]


def test_settling_finds_cut_hair_in_the_matte() -> None:
    frame = framing.plan_portrait(landmarks_at(500, 320, 150), None, (1000, 1400), touch=FREE)
    alpha = np.zeros((640, 640), np.float32)
    quad_top = np.flatnonzero(frame.coverage()[:, 320])[0]
    alpha[quad_top:, 200:440] = 1
    settled = framing.settle(frame, alpha)
    assert settled.touch is not None
    assert settled.touch.top
    middle = round(settled.face.eyes[0])
    assert settled.coverage()[2, middle - 40 : middle + 40].min() == 255


def test_a_door_frame_above_the_head_is_not_taken_for_cut_hair() -> None:
    landmarks = landmarks_at(500, 700, 120)
    alpha = np.zeros((1400, 1000), np.float32)
    alpha[:, 380:620] = 1
    leaked = framing.edges_touched(alpha, landmarks)
    assert not leaked.top
    assert leaked.crown == pytest.approx(700 - 3 * 120, abs=3)
    assert leaked.hat is None


def hatted(height: float) -> tuple[framing.PortraitFrame, material.F32]:
    """Return frame and canvas matte of a person in a hat that many face units above the eyes."""
    unit, x, y = 100, 500, 700
    alpha = np.zeros((1400, 1000), np.uint8)
    cv2.ellipse(alpha, (x, y), (130, 180), 0, 0, 360, 255, -1)
    cv2.rectangle(alpha, (x - 110, round(y - height * unit)), (x + 110, y), 255, -1)
    cv2.rectangle(alpha, (x - 320, y + 280), (x + 320, 1400), 255, -1)
    landmarks = landmarks_at(x, y, unit)
    touch = framing.edges_touched(alpha.astype(np.float32) / 255, landmarks)
    frame = framing.plan_portrait(landmarks, None, (1000, 1400), touch=touch)
    canvas = cv2.warpAffine(alpha, frame.matrix, (640, 640))
    return frame, np.asarray(canvas, np.float32) / np.float32(255)


def test_a_hat_too_tall_for_the_square_is_told_and_one_that_fits_is_not() -> None:
    frame, alpha = hatted(3.8)
    assert FrameNote.HEADWEAR_CUT in frame.notes
    for aspect in ("1:1", "16:9"):
        assert FrameNote.HEADWEAR_CUT in framing.plan_crop(frame, alpha, aspect).notes
    frame, alpha = hatted(3.0)
    assert FrameNote.HEADWEAR_CUT not in frame.notes
    assert FrameNote.HEADWEAR_CUT not in framing.plan_crop(frame, alpha, "1:1").notes


class TestCrops:
    def frame_and_alpha(self) -> tuple[framing.PortraitFrame, material.F32]:
        return material.astronaut_frame(), material.person_alpha()

    def test_the_square_is_the_whole_canvas(self) -> None:
        frame = framing.plan_portrait(landmarks_at(1000, 1000, 150), None, (2000, 3000))
        alpha = np.zeros((640, 640), np.float32)
        alpha[110:, 200:440] = 1
        crop = framing.plan_crop(frame, alpha, "1:1")
        assert (crop.x0, crop.y0, crop.x1, crop.y1) == (0, 0, 640, 640)

    @pytest.mark.parametrize("aspect", ["1:1", "4:3", "16:9", "4:5", "3:4", "3:2"])
    def test_every_aspect_keeps_the_whole_head(self, aspect: str) -> None:
        frame, alpha = self.frame_and_alpha()
        crop = framing.plan_crop(frame, alpha, aspect)
        rows = np.flatnonzero((alpha > 0.5).any(axis=1))
        assert crop.y0 < rows[0] - 3
        assert crop.y1 > frame.face.chin_y + 3
        assert crop.width / crop.height == pytest.approx(framing.parse_aspect(aspect), rel=1e-6)
        assert max(crop.width, crop.height) >= 600 - 1

    @pytest.mark.parametrize(("size", "aspect"), [(0.46, "1:3"), (0.6, "1:2")])
    def test_a_narrow_crop_gets_background_above_rather_than_cut_the_head_at_the_sides(
        self, size: float, aspect: str
    ) -> None:
        spec = FramingSpec(head_height=size)
        frame = framing.plan_portrait(landmarks_at(1000, 1200, 150), None, (2000, 3000), spec)
        face, (alpha, axes) = frame.face, wide_head(frame)
        x, y, s = *face.eyes, face.scale
        alpha[round(y + 2.6 * s) :] = 255
        crop = framing.plan_crop(frame, alpha.astype(np.float32) / 255, aspect)
        assert crop.x0 < x - axes[0] < x + axes[0] < crop.x1
        assert crop.y0 < 0
        assert crop.y1 <= 640 + 1e-6
        assert FrameNote.BACKGROUND_EXTENDED in crop.notes
        assert FrameNote.HEAD_LARGER_THAN_ASKED not in crop.notes

    @pytest.mark.parametrize(
        ("size", "aspect", "cut"),
        [
            (0.44, "1:3", False),
            (0.44, "3:1", False),
            (0.6, "1:2", False),
            (0.6, "1:3", True),
            (0.6, "3:1", True),
        ],
    )
    def test_a_head_that_has_no_room_in_a_crop_is_told_to_be_cut(
        self, size: float, aspect: str, cut: bool
    ) -> None:
        spec = FramingSpec(head_height=size, eye_line=0.47)
        frame = framing.plan_portrait(landmarks_at(1000, 1200, 150), None, (2000, 3000), spec)
        face, (alpha, axes) = frame.face, wide_head(frame)
        x, y, s = *face.eyes, face.scale
        # Shoulders that leave the photo next to the chin.
        alpha[round(y + 1.2 * s) :] = 255
        crop = framing.plan_crop(frame, alpha.astype(np.float32) / 255, aspect)
        missing = max(
            crop.x0 - (x - axes[0]),
            x + axes[0] - crop.x1,
            crop.y0 - (y - axes[1]),
            face.chin_y - crop.y1,
        )
        assert (missing > 0.01 * crop.height) == cut
        assert (missing > 0) == cut
        assert (FrameNote.HEAD_CUT in crop.notes) == cut

    def test_a_hat_that_is_cut_is_no_head_that_is_cut(self) -> None:
        frame, alpha = hatted(3.8)
        notes = framing.plan_crop(frame, alpha, "16:9").notes
        assert FrameNote.HEADWEAR_CUT in notes
        assert FrameNote.HEAD_CUT not in notes

    def test_a_wide_crop_widens_only_above_the_row_where_shoulders_leave_the_photo(self) -> None:
        frame, alpha = self.frame_and_alpha()
        crop = framing.plan_crop(frame, alpha, "16:9")
        edge = np.flatnonzero((alpha[:, :4] > 0.2).any(axis=1) | (alpha[:, -4:] > 0.2).any(axis=1))
        assert crop.x0 < 0 < 640 < crop.x1
        assert crop.y1 <= edge[0] + 2
        assert FrameNote.BACKGROUND_EXTENDED in crop.notes

    def test_a_wide_crop_moves_the_eyes_down_rather_than_cut_tall_hair(self) -> None:
        frame = framing.plan_portrait(landmarks_at(500, 560, 120), None, (1000, 1000))
        face = frame.face
        alpha = np.zeros((640, 640), np.float32)
        middle, crown = round(face.eyes[0]), face.eyes[1] - 2.2 * face.scale
        alpha[round(crown) : round(face.chin_y), middle - 90 : middle + 90] = 1
        alpha[round(face.eyes[1] + 2.1 * face.scale) :] = 1
        for aspect in ("4:3", "16:9"):
            crop = framing.plan_crop(frame, alpha, aspect)
            line = (face.eyes[1] - crop.y0) / crop.height
            assert crop.y0 < crown, aspect
            assert 0.5 < line < 0.56, aspect
        alpha[: round(face.eyes[1] - 1.6 * face.scale)] = 0
        crop = framing.plan_crop(frame, alpha, "16:9")
        assert (face.eyes[1] - crop.y0) / crop.height <= 0.5

    def test_a_subject_that_fills_both_sides_is_never_widened(self) -> None:
        frame, alpha = self.frame_and_alpha()
        alpha = alpha.copy()
        alpha[40:] = 1
        crop = framing.plan_crop(frame, alpha, "4:3")
        assert crop.x0 >= -1
        assert crop.x1 <= 641

    @pytest.mark.parametrize("aspect", [1199 / 1200, 1201 / 1200, 1.009])
    def test_a_crop_that_is_square_but_for_a_pixel_is_the_square(self, aspect: float) -> None:
        frame, _ = self.frame_and_alpha()
        alpha = np.zeros((640, 640), np.float32)
        alpha[200:, 200:440] = 1
        square, other = (framing.plan_crop(frame, alpha, ratio) for ratio in (1.0, aspect))
        assert (square.x0, square.y0, square.x1, square.y1) == (0, 0, 640, 640)
        assert other.width / other.height == pytest.approx(aspect, rel=1e-9)
        # A hundredth at most, and the eyes stay where they were.
        assert min(other.width, other.height) >= 0.99 * 640
        line = (frame.face.eyes[1] - other.y0) / other.height
        assert line == pytest.approx(frame.face.eyes[1] / 640, abs=1e-6)
        assert 0 <= other.x0 < other.x1 <= 640
        assert 0 <= other.y0 < other.y1 <= 640

    def test_a_wide_crop_that_the_head_fills_is_told(self) -> None:
        frame = framing.plan_portrait(landmarks_at(512, 420, 170), None, (1024, 1024))
        face = frame.face
        alpha = np.zeros((640, 640), np.uint8)
        middle = (round(face.eyes[0]), round(face.eyes[1]))
        axes = (round(1.4 * face.scale), round(1.8 * face.scale))
        cv2.ellipse(alpha, middle, axes, 0, 0, 360, 255, -1)
        # Shoulders that leave the photo next to the chin.
        alpha[round(face.chin_y + 0.5 * face.scale) :] = 255
        matte = alpha.astype(np.float32) / 255
        square, wide = (framing.plan_crop(frame, matte, aspect) for aspect in ("1:1", "16:9"))
        assert face.head_height / wide.height > 1.2 * face.head_height / square.height
        assert FrameNote.HEAD_LARGER_THAN_ASKED in wide.notes
        assert FrameNote.HEAD_LARGER_THAN_ASKED not in square.notes

    def test_the_square_tells_of_a_moved_eye_line_as_other_crops_do(self) -> None:
        frame, _ = hatted(3.3)
        matte = np.zeros((640, 640), np.float32)
        matte[20:, 250:390] = 1
        line = frame.face.eyes[1] / 640
        assert line - frame.spec.eye_line > 0.06
        assert FrameNote.EYE_LINE_MOVED in framing.plan_crop(frame, matte, 1.0).notes

    def test_it_is_the_longer_side_of_a_narrow_crop_that_holds_the_resolution(self) -> None:
        touch = EdgeTouch(top=False, left=630.0, right=630.0, crown=0.0)
        frame = framing.plan_portrait(landmarks_at(450, 270, 200), None, (900, 900), touch=touch)
        x, y, s = *frame.face.eyes, frame.face.scale
        alpha = np.zeros((640, 640), np.uint8)
        axes = (round(1.5 * s), round(1.9 * s))
        cv2.ellipse(alpha, (round(x), round(y)), axes, 0, 0, 360, 255, -1)
        alpha[round(y + 2.6 * s) :] = 255
        crop = framing.plan_crop(frame, alpha.astype(np.float32) / 255, "4:5")
        assert crop.height >= 599.5
        # The head is wider than such a crop can be, which is told, and nothing else is.
        assert crop.notes == (framing.FrameNote.HEAD_CUT,)

    def test_a_malformed_aspect_is_refused(self) -> None:
        for text in ("16x9", "1:0", "9:1", ""):
            with pytest.raises(ValueError, match="aspect"):
                framing.parse_aspect(text)

    def test_a_crop_draws_canvas_pixels_where_its_matrix_says(self) -> None:
        crop = framing.Crop(-40, 20, 600, 500, 4 / 3)
        corner = crop.matrix((1280, 960)) @ np.array([-40 - 0.5, 20 - 0.5, 1])
        assert corner == pytest.approx([-0.5, -0.5], abs=1e-4)


def test_real_selfies_keep_head_and_shoulders_inside_the_photo(photos: list[str]) -> None:
    for name in photos:
        image, landmarks = material.photo(name)
        frame = framing.plan_portrait(landmarks, None, (image.shape[1], image.shape[0]))
        assert 0.28 <= frame.face.eyes[1] / 640 <= 0.475, name
        assert abs(frame.face.tilt) < 8, name
        row = frame.coverage()[-2]
        assert row.mean() / 255 > 0.97, name
