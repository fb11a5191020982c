"""A quality report as data: measures, their bounds, three layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Layer(StrEnum):
    """What a measure speaks of."""

    IDENTITY = "identity"
    REALISM = "realism"
    CONTEXT = "context"


@dataclass(frozen=True)
class Bounds:
    """The values that pass, both ends included; None is open."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"bounds are the wrong way round: {self.low} > {self.high}")

    def holds(self, value: float) -> bool:
        """Tell whether a value passes; NaN never does."""
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return above and below and value == value  # noqa: PLR0124 - NaN differs from itself


@dataclass(frozen=True)
class Measure:
    """One measured value.

    Attributes:
        id: "layer.name", stable.
        layer: its layer.
        value: in `unit`.
        unit: "", "degrees", "L*", "fraction", "px", "levels", "bits", ...
        bounds: what passes.
        passed: whether `value` lies within `bounds`.
        component: 0..100 quality component value by the mapping of ISO/IEC 29794-5, or None where
            the standard has none.
        standard: name of the component in ISO/IEC 29794-5, or "".
    """

    id: str
    layer: Layer
    value: float
    unit: str
    bounds: Bounds
    passed: bool
    component: int | None = None
    standard: str = ""


@dataclass(frozen=True)
class QualityReport:
    """All measures of one result."""

    measures: tuple[Measure, ...]

    @property
    def passed(self) -> bool:
        """Whether every measure passes."""
        return all(m.passed for m in self.measures)

    @property
    def failed(self) -> tuple[Measure, ...]:
        """The measures that do not pass."""
        return tuple(m for m in self.measures if not m.passed)

    def layer(self, layer: Layer) -> tuple[Measure, ...]:
        """Return the measures of one layer."""
        return tuple(m for m in self.measures if m.layer is layer)

    def get(self, measure_id: str) -> Measure:
        """Return one measure; KeyError names the ones there are."""
        for measure in self.measures:
            if measure.id == measure_id:
                return measure
        raise KeyError(f"{measure_id} is not among {', '.join(m.id for m in self.measures)}")

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON: {layer: {name: {value, unit, low, high, passed, ...}}}."""
        out: dict[str, object] = {"passed": self.passed}
        for layer in Layer:
            out[layer.value] = {
                m.id.split(".", 1)[1]: {
                    "value": round(m.value, 4),
                    "unit": m.unit,
                    "low": m.bounds.low,
                    "high": m.bounds.high,
                    "passed": m.passed,
                    "component": m.component,
                    "standard": m.standard,
                }
                for m in self.layer(layer)
            }
        return out


DEFAULT_BOUNDS: Mapping[str, Bounds] = {
    "identity.margin": Bounds(low=0.0),
    "identity.second_margin": Bounds(low=0.0),
    "realism.sharpness": Bounds(low=8.0),
    "realism.texture_kept": Bounds(low=0.70, high=1.6),
    "realism.detail_kept": Bounds(low=0.25),
    "realism.noise": Bounds(high=5.0),
    "realism.luminance_mean": Bounds(low=0.03, high=0.80),
    "realism.luminance_variance": Bounds(low=0.001, high=0.12),
    "realism.dynamic_range": Bounds(low=4.5),
    "realism.under_exposure": Bounds(high=0.60),
    "realism.over_exposure": Bounds(high=0.05),
    "realism.clipping": Bounds(high=0.04),
    "realism.illumination_uniformity": Bounds(low=0.12),
    "realism.natural_colour": Bounds(high=8.0),
    "realism.colour_cast": Bounds(high=6.0),
    "realism.skin_delta_ita": Bounds(low=-8.0, high=8.0),
    "realism.skin_delta_hue": Bounds(low=-12.0, high=12.0),
    "realism.edge_halo": Bounds(high=6.0),
    "realism.edge_spill": Bounds(high=0.30),
    "realism.edge_width": Bounds(low=0.0005, high=0.035),
    "realism.blockiness": Bounds(high=0.25),
    "context.eye_line": Bounds(low=0.26, high=0.48),
    "context.eye_tilt": Bounds(low=-4.0, high=4.0),
    "context.head_height": Bounds(low=0.36, high=0.90),
    "context.head_size": Bounds(low=0.15, high=0.46),
    "context.inter_eye_distance": Bounds(low=70.0),
    "context.margin_top": Bounds(low=0.015),
    "context.margin_sides": Bounds(low=0.02),
    "context.margin_chin": Bounds(low=0.05),
    "context.circle_overflow": Bounds(high=0.02),
    "context.contrast_48": Bounds(low=10.0),
    "context.contrast_32": Bounds(low=10.0),
    "context.background_uniformity": Bounds(high=110.0),
}
"""What passes where a style says nothing."""

LIT_UNDER_EXPOSURE = Bounds(high=0.90)
"""What passes of `realism.under_exposure` then, on a face that light falls on.

The standard counts luminance 0..25 of 255, L* below 38: the very skin of a dark complexion. Its
quality component is 52 of 100 at 0.90. Without light a picture is told earlier than the photo is.
"""
