"""The report of one result: three layers of measures against a style's bounds."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.framing_model import FramingSpec
from headshot.imaging.pose import face_angles
from headshot.imaging.quality import context, ofiq, realism
from headshot.imaging.quality.report import (
    DEFAULT_BOUNDS,
    LIT_UNDER_EXPOSURE,
    Bounds,
    Layer,
    Measure,
    QualityReport,
)
from headshot.imaging.skin import change_between, read_skin

_SIDE = 640


class _Sheet:
    """Collects measures with their bounds."""

    def __init__(self, bounds: Mapping[str, Bounds]) -> None:
        unknown = sorted(set(bounds) - set(DEFAULT_BOUNDS))
        if unknown:
            raise ValueError(f"no such measure: {', '.join(unknown)}")
        self._asked = bounds
        self.measures: list[Measure] = []

    def add(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        component: int | None = None,
        standard: str = "",
        usual: Bounds | None = None,
    ) -> None:
        """Add a measure; `usual` passes where the style says nothing, None for DEFAULT_BOUNDS."""
        limits = self._asked.get(name) or usual or DEFAULT_BOUNDS[name]
        layer = Layer(name.split(".", 1)[0])
        held = limits.holds(value)
        self.measures.append(Measure(name, layer, value, unit, limits, held, component, standard))


def measure(
    result: U8,
    *,
    reference: U8,
    landmarks: NDArray[np.floating],
    alpha: F32,
    background: U8 | tuple[int, int, int] | None,
    similarity: float,
    threshold: float,
    second_similarity: float | None = None,
    second_threshold: float | None = None,
    compressed: U8 | None = None,
    enlargement: float = 1.0,
    circle_margin: float = FramingSpec.circle_margin,
    bounds: Mapping[str, Bounds] | None = None,
) -> QualityReport:
    """Measure one result.

    Args:
        result: uint8 [h, w, 3], the composed square portrait.
        reference: uint8, the photo in the same frame (any resolution).
        landmarks: float32 [5, 2] in pixels of the result.
        alpha: float32 [h, w] matte of the result.
        background: uint8 [h, w, 3] or one colour, the new background alone; None where the photo's
            own background was kept (edges and uniformity are then not measured).
        similarity: cosine between result and template, -1..1, of the gating recogniser.
        threshold: its match threshold.
        second_similarity: of a second recogniser, where there is one.
        second_threshold: its threshold.
        compressed: the result after its lossy encoding, where the caller has decoded it again;
            compression is measured there, else on the result itself.
        enlargement: pixels of the result that one pixel of the photo became.
        circle_margin: room between head and inscribed circle, of the side.
        bounds: what the style asks for; the rest is DEFAULT_BOUNDS.

    Returns:
        The report. A failed measure is data, never an exception.

    Raises:
        ValueError: sizes differ, a bound names no measure, or the face is outside the picture.
    """
    if result.shape[:2] != alpha.shape:
        raise ValueError(f"result {result.shape[:2]} and alpha {alpha.shape} differ in size")
    sheet = _Sheet(bounds or {})
    _identity(sheet, similarity, threshold, second_similarity, second_threshold)
    pictures = _at_working_size(result, reference, landmarks, alpha, background)
    _realism(sheet, *pictures)
    lossy = result if compressed is None else compressed
    sheet.add(
        "realism.blockiness",
        realism.blockiness(lossy),
        "ratio",
        standard="CompressionArtifacts",
    )
    shrunk, _, points, matte, ground = pictures
    _context(sheet, shrunk, points, matte, ground is not None, circle_margin)
    # How many pixels the camera gave the face: in the result it only says how it was framed.
    taken = np.asarray(landmarks, np.float64) / enlargement
    eyes = ofiq.inter_eye_distance(taken, face_angles(taken).yaw)
    sheet.add(
        "context.inter_eye_distance",
        eyes.value,
        "px",
        component=eyes.component,
        standard="InterEyeDistance",
    )
    return QualityReport(tuple(sheet.measures))


def _at_working_size(
    result: U8,
    reference: U8,
    landmarks: NDArray[np.floating],
    alpha: F32,
    background: U8 | tuple[int, int, int] | None,
) -> tuple[U8, U8, NDArray[np.float64], F32, U8 | None]:
    ratio = min(1.0, _SIDE / max(alpha.shape))
    size = (round(alpha.shape[1] * ratio), round(alpha.shape[0] * ratio))

    def fit(image: U8) -> U8:
        if image.shape[1::-1] == size:
            return image
        method = cv2.INTER_AREA if image.shape[1] > size[0] else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)

    ground: U8 | None = None
    if isinstance(background, tuple):
        ground = np.empty((size[1], size[0], 3), np.uint8)
        ground[:] = background
    elif background is not None:
        ground = fit(background)
    matte = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32)
    # Pixel centres: the shrunk picture's (0, 0) lies at 0.5 / ratio - 0.5 of the large one.
    points = (np.asarray(landmarks, np.float64) + 0.5) * ratio - 0.5
    return fit(result), fit(reference), points, matte, ground


def _identity(
    sheet: _Sheet,
    similarity: float,
    threshold: float,
    second_similarity: float | None,
    second_threshold: float | None,
) -> None:
    sheet.add("identity.margin", similarity - threshold, "cosine")
    if second_similarity is not None and second_threshold is not None:
        sheet.add("identity.second_margin", second_similarity - second_threshold, "cosine")


def _realism(
    sheet: _Sheet,
    result: U8,
    reference: U8,
    landmarks: NDArray[np.float64],
    alpha: F32,
    background: U8 | None,
) -> None:
    add = sheet.add
    sharp = realism.sharpness(result, landmarks)
    add("realism.sharpness", sharp, "levels", standard="Sharpness")
    kept = realism.skin_kept(result, reference, landmarks)
    add("realism.texture_kept", kept.texture, "ratio")
    add("realism.detail_kept", kept.detail, "ratio")
    add("realism.noise", realism.noise(result, alpha), "levels")
    light = ofiq.face_light(result, landmarks, alpha)
    for name, part, unit, standard in (
        ("luminance_mean", light.mean, "fraction", "LuminanceMean"),
        ("luminance_variance", light.variance, "", "LuminanceVariance"),
        ("dynamic_range", light.dynamic_range, "bits", "DynamicRange"),
        ("over_exposure", light.over_exposure, "fraction", "OverExposurePrevention"),
        ("illumination_uniformity", light.uniformity, "fraction", "IlluminationUniformity"),
        ("natural_colour", ofiq.natural_colour(result, landmarks), "CIELAB", "NaturalColour"),
    ):
        add(f"realism.{name}", part.value, unit, component=part.component, standard=standard)
    add(
        "realism.under_exposure",
        light.under_exposure.value,
        "fraction",
        component=light.under_exposure.component,
        standard="UnderExposurePrevention",
        usual=LIT_UNDER_EXPOSURE if light.lit else None,
    )
    add("realism.clipping", realism.clipping(result, landmarks), "fraction")
    before, after = (read_skin(image, landmarks, alpha) for image in (reference, result))
    change = change_between(before, after)
    add("realism.colour_cast", realism.skin_cast(after), "CIELAB")
    add("realism.skin_delta_ita", change.delta_ita, "degrees")
    add("realism.skin_delta_hue", change.delta_hue, "degrees")
    if background is not None:
        edge = realism.edge_quality(result, alpha, background, reference)
        add("realism.edge_halo", edge.halo, "L*")
        add("realism.edge_spill", edge.spill, "fraction")
        add("realism.edge_width", edge.width, "fraction")


def _context(
    sheet: _Sheet,
    result: U8,
    landmarks: NDArray[np.float64],
    alpha: F32,
    replaced: bool,
    circle_margin: float,
) -> None:
    add = sheet.add
    frame = context.framing(landmarks, alpha, circle_margin=circle_margin)
    add("context.eye_line", frame.eye_line, "fraction")
    add("context.eye_tilt", frame.eye_tilt, "degrees")
    add("context.head_height", frame.head_height, "fraction")
    size = ofiq.head_size(landmarks, result.shape[0])
    add("context.head_size", size.value, "fraction", component=size.component, standard="HeadSize")
    add("context.margin_top", frame.margin_top, "fraction")
    add("context.margin_sides", frame.margin_sides, "fraction")
    add("context.margin_chin", frame.margin_chin, "fraction")
    add("context.circle_overflow", frame.circle_overflow, "fraction")
    for side in (48, 32):
        value = context.small_contrast(result, landmarks, alpha, side)
        if value is not None:
            add(f"context.contrast_{side}", value, "CIELAB")
    ground = ofiq.background_uniformity(result, alpha) if replaced else None
    if ground is not None:
        add(
            "context.background_uniformity",
            ground.value,
            "levels",
            component=ground.component,
            standard="BackgroundUniformity",
        )
