"""Exposure, white balance and soft contrast by measured targets, within a skin-tone budget.

Everything is one table of 256 values for each channel, so that the same adjustment serves every
resolution. No target is set on the skin itself: a rule that pulls faces to one lightness lightens
dark complexions. Exposure looks at the picture's bright end, white balance at its neutral things,
contrast turns about the skin's own value; then the part that costs least, or all of them, are held
back until the typology angle moves less than the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import (
    F32,
    U8,
    correlated_colour_temperature,
    daylight_rgb,
    linear_to_srgb,
    luma,
    srgb_to_linear,
    to_lab,
)
from headshot.imaging.illuminant import Cast, estimate_cast
from headshot.imaging.skin import (
    SkinChange,
    SkinReading,
    change_between,
    reading_of,
    skin_pixels,
)

_LINEAR = srgb_to_linear(np.arange(256, dtype=np.uint8)).astype(np.float64)

IN_THE_DARK = 140.0
"""Code value, 0..255: in good light the brightest 1% of a person of any complexion is brighter."""
_LIT = 205.0
"""Code value that the brightest 1% of a lifted person comes to: a light shirt, a glint on skin."""
_MOST_LIFT = 1.8
"""Stops beyond which a phone's shadows are more noise than picture."""
_MOST_GAIN = 0.4
"""Natural logarithm of the largest gain of a channel."""
_NEAR = 50.0
"""Kelvin from the target within which no second look is taken."""
_ENOUGH = 1500
"""Skin pixels whose median is as good as that of all, within a tenth of a degree."""


@dataclass(frozen=True)
class ToneSpec:
    """Targets and bounds.

    Attributes:
        white_level: code value, 0..255, that the brightest 1% of the picture should reach.
        max_stops: largest brightening, in stops; darkening is at most a third of it.
        white_balance: share of the measured cast that is taken out, 0..1.
        temperature: CCT in kelvin that neutral things should have; 6504 is sRGB's white.
        contrast: L* between the 5th and 95th percentile of the subject that is enough.
        max_contrast: largest steepening at the skin's value, 0..0.4.
        max_delta_ita: skin-tone budget for a well-lit photo, degrees.
        max_delta_ita_poor_light: budget where the exposure is more than a stop off, degrees.
        balance_first: where not all fits the budget, hold back exposure and contrast rather than
            white balance, if that is enough.
        balance_passes: how often at most the light is measured and balanced; more than once
            balances what the toned picture still shows.
        lift: expose a person who stands in the dark by what is bright on the person, outside the
            skin-tone budget. The report still tells the whole change of the skin.
    """

    white_level: float = 232.0
    max_stops: float = 0.9
    white_balance: float = 0.7
    temperature: float = 6504.0
    contrast: float = 62.0
    max_contrast: float = 0.14
    max_delta_ita: float = 1.8
    max_delta_ita_poor_light: float = 6.0
    balance_first: bool = False
    balance_passes: int = 1
    lift: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_contrast <= 0.4:
            raise ValueError("max_contrast must be in 0..0.4")
        if not (0 < self.max_delta_ita <= 8 and 0 < self.max_delta_ita_poor_light <= 8):
            raise ValueError("the skin-tone budgets must be positive and at most 8 degrees")
        if not 4000 <= self.temperature <= 10000:
            raise ValueError("temperature must be in 4000..10000 K")
        if self.balance_passes < 1:
            raise ValueError("balance_passes must be at least 1")


@dataclass(frozen=True)
class ToneReport:
    """What was measured and done.

    Attributes:
        stops: exposure change, in stops.
        gains: linear gains of R, G and B, green 1.
        contrast: steepening at the skin's value.
        scale: share of what was held back that the skin budget allowed, 0..1.
        cast: the cast measured before.
        cct_before: CCT of the light measured before, kelvin.
        cct_after: CCT of the light measured in the toned picture, kelvin.
        skin: change of the skin.
        table: uint8 [256, 3], for `apply_table` at other resolutions.
    """

    stops: float
    gains: tuple[float, float, float]
    contrast: float
    scale: float
    cast: Cast
    cct_before: float
    cct_after: float
    skin: SkinChange
    table: U8


@dataclass(frozen=True)
class _Wanted:
    stops: float
    log_gains: NDArray[np.float64]
    contrast: float
    pivot: float  # coded value 0..1 of the skin

    def scaled(self, share: float) -> _Wanted:
        return self.parts(share, share, share)

    def parts(self, light: float, temperature: float, tint: float) -> _Wanted:
        """Return shares, 0..1, of exposure with contrast, of blue-yellow and of green-magenta."""
        red, _, blue = self.log_gains
        warm, green = (red - blue) / 2 * temperature, (red + blue) / 2 * tint
        return replace(
            self,
            stops=self.stops * light,
            log_gains=np.array([green + warm, 0.0, green - warm]),
            contrast=self.contrast * light,
        )


def for_team(spec: ToneSpec) -> ToneSpec:
    """Return the spec for people who will be seen side by side.

    The whole cast is taken out instead of most of it, the light is measured again and balanced
    further, and skin may move further, to bring everybody within 200 K of the target; a photo whose
    skin would still change too much stays apart, and `quality.team.compare_team` names it.
    """
    budget = 7.2
    return replace(
        spec,
        white_balance=1.0,
        max_delta_ita=budget,
        max_delta_ita_poor_light=budget,
        balance_first=True,
        balance_passes=4,
    )


def adjust(
    image: U8,
    landmarks: NDArray[np.floating],
    alpha: F32 | None = None,
    spec: ToneSpec | None = None,
    photo: SkinReading | None = None,
) -> tuple[U8, ToneReport]:
    """Return the picture with measured tone, and the report.

    Args:
        image: uint8 [h, w, 3] with its own background still in place, where neutral things are.
        landmarks: [5, 2] in its pixels.
        alpha: float32 [h, w] matte; narrows contrast to the subject.
        spec: targets; the default is a neutral studio look.
        photo: the skin in the person's photo, which the skin-tone budget counts from; the default
            is the picture itself. What a network moved before leaves that much less for the tone.
    """
    spec = spec or ToneSpec()
    pixels = skin_pixels(image, landmarks, alpha)
    before = counted = photo or reading_of(pixels)
    lifted = _missing_lift(image, alpha) if spec.lift else 0.0
    raised = _table(_Wanted(lifted, np.zeros(3), 0.0, 0.5))
    exposed = image
    if lifted > 0:
        exposed, pixels = apply_table(image, raised), _through(pixels, raised)
        counted = reading_of(pixels)
        # Both together bring no more out of the shadows than the lift alone may.
        spec = replace(spec, max_stops=min(spec.max_stops, _MOST_LIFT - lifted))
    cast = estimate_cast(exposed, landmarks)
    wanted, poor = _want(exposed, alpha, pixels, cast, spec)
    budget = max(spec.max_delta_ita, spec.max_delta_ita_poor_light if poor else 0.0)
    done, share, shown = _balanced(
        wanted,
        cast,
        lambda change: _affordable_parts(change, pixels, counted, budget, spec.balance_first),
        lambda table: estimate_cast(apply_table(exposed, table), landmarks),
        spec,
    )
    table = _table(done)
    change = change_between(before, reading_of(_through(pixels, table)))
    gains = np.exp(done.log_gains)
    if lifted > 0:
        table = np.stack([table[raised[:, k], k] for k in range(3)], axis=1)
    report = ToneReport(
        stops=done.stops + lifted,
        gains=(float(gains[0]), float(gains[1]), float(gains[2])),
        contrast=done.contrast,
        scale=share,
        cast=cast,
        cct_before=_kelvin(cast),
        cct_after=_kelvin(shown),
        skin=change,
        table=table,
    )
    return apply_table(image, table), report


def apply_table(image: U8, table: U8) -> U8:
    """Return uint8 [h, w, 3] through the table uint8 [256, 3] of a ToneReport."""
    return np.asarray(cv2.LUT(image, table.reshape(1, 256, 3)), np.uint8)


def _balanced(
    wanted: _Wanted,
    cast: Cast,
    affordable: Callable[[_Wanted], tuple[_Wanted, float]],
    seen_through: Callable[[U8], Cast],
    spec: ToneSpec,
) -> tuple[_Wanted, float, Cast]:
    """Return what of the change is done, the share of the part held back, the light then seen.

    The estimate trusts what is nearly grey: of a strong cast it first sees a part only, and behind
    a change of the light other things may be the greyest. So a team's light is measured again: what
    blue or yellow is still seen is balanced too (of the tint, once is what `_mostly_temperature`
    holds it back to), and of a step that led away from the target half is tried.

    Args:
        wanted: the change after the first measurement.
        cast: that measurement.
        affordable: what the skin budget allows of a change.
        seen_through: measures the light in the picture through a table.
        spec: targets and how often to measure.
    """

    def off(light: Cast) -> float:
        return abs(_kelvin(light) - spec.temperature)

    nearest, reached, step = off(cast), np.zeros(3), wanted.log_gains
    best: tuple[_Wanted, float, Cast] | None = None
    for _ in range(spec.balance_passes):
        gains = np.clip(reached + step, -_MOST_GAIN, _MOST_GAIN)
        done, share = affordable(replace(wanted, log_gains=gains))
        shown = seen_through(_table(done))
        nearer = off(shown) < nearest
        if nearer or best is None:
            best = done, share, shown
        if nearer:
            nearest, reached, step = off(shown), gains, _warmth(_balance(shown, spec))
        else:
            step = step / 2
        if nearest < _NEAR:
            break
    assert best is not None
    return best


def _kelvin(cast: Cast) -> float:
    return correlated_colour_temperature(cast.light)


def _balance(cast: Cast, spec: ToneSpec) -> NDArray[np.float64]:
    log_gains = np.log(daylight_rgb(spec.temperature) / np.maximum(cast.light, 1e-4))
    return _mostly_temperature(log_gains - log_gains[1]) * spec.white_balance


def _want(
    image: U8, alpha: F32 | None, pixels: U8, cast: Cast, spec: ToneSpec
) -> tuple[_Wanted, bool]:
    grey = luma(image)
    inside = grey if alpha is None else grey[alpha > 0.9]
    white = scene = percentile(grey, 99)
    if inside.size and (own := percentile(inside, 99)) < IN_THE_DARK:
        # Nothing on the person is bright, no shirt, no glint on skin: the wall has the light.
        white = own

    def missing_stops(level: float) -> float:
        return float(np.log2(_decode(spec.white_level) / max(_decode(level), 1e-4)))

    need = missing_stops(white)
    # Within a third of a stop a picture is a matter of taste, not of exposure.
    stops = float(np.sign(need) * max(0.0, abs(need) - 0.33))
    stops = float(np.clip(stops, -spec.max_stops / 3, spec.max_stops))
    low, high = (percentile(inside if inside.size else grey, share) for share in (5, 95))
    ends = np.array([[low] * 3, [high] * 3], np.float32) / np.float32(255)
    span = to_lab(np.asarray(ends, np.float32))[:, 0]
    lacking = (spec.contrast - float(span[1] - span[0])) / spec.contrast
    contrast = float(np.clip(lacking, 0, 1)) * spec.max_contrast
    pivot = float(np.median(pixels.astype(np.float32))) / 255
    # More than a stop off is no question of taste: the photo does not show the skin as it is. A
    # person darker than the scene is another matter: how dark the skin is cannot be known.
    poor = abs(missing_stops(scene)) > 1.0
    return _Wanted(stops, _balance(cast, spec), contrast, pivot), poor


def _missing_lift(image: U8, alpha: F32 | None) -> float:
    """Return the stops that a person in the dark lacks, 0 for one who is not or is not known."""
    if alpha is None:
        return 0.0
    own = percentile(luma(image)[alpha > 0.9], 99) if (alpha > 0.9).any() else 255.0
    if own >= IN_THE_DARK:
        return 0.0
    return float(min(np.log2(_decode(_LIT) / max(_decode(own), 1e-4)), _MOST_LIFT))


def percentile(levels: U8, share: float) -> float:
    """Return np.percentile of levels uint8 0..255 at a share 0..100, by counting not sorting."""
    below = np.cumsum(np.bincount(levels.reshape(-1), minlength=256))
    place = (levels.size - 1) * share / 100
    low, high = np.searchsorted(below, (np.floor(place), np.ceil(place)), side="right")
    return float(low + (high - low) * (place - np.floor(place)))


def _mostly_temperature(log_gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log gains with the tint (green-magenta) part held back to 45%.

    Lights differ along blue-yellow; a strong tint is more often the colour of a wall, and undoing
    it makes skin grey or green.
    """
    temperature = (log_gains[0] - log_gains[2]) / 2
    tint = 0.45 * (log_gains[0] + log_gains[2]) / 2
    mixed = np.array([tint + temperature, 0.0, tint - temperature])
    return np.asarray(np.clip(mixed, -_MOST_GAIN, _MOST_GAIN), np.float64)


def _warmth(log_gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the blue-yellow part of log gains."""
    warm = (log_gains[0] - log_gains[2]) / 2
    return np.array([warm, 0.0, -warm])


def _decode(code: float) -> float:
    return float(np.interp(code, np.arange(256), _LINEAR))


def _affordable_parts(
    wanted: _Wanted, pixels: U8, before: SkinReading, budget: float, balance_first: bool
) -> tuple[_Wanted, float]:
    """Return as much of the change as the budget allows, and the share of the part held back.

    The typology angle looks at lightness and blue-yellow only: green-magenta costs next to nothing,
    and light may pay for warmth. So one part is held back, the one that leaves more of the whole,
    before all of them are.
    """
    pixels = pixels[:: max(1, len(pixels) // _ENOUGH)]
    if _fits(wanted, pixels, before, budget):
        return wanted, 1.0
    # What an eye would call one step: half a stop, or a tenth of colour balance.
    light_steps = abs(wanted.stops) / 0.5 + wanted.contrast / 0.1
    warm_steps = abs(wanted.log_gains[0] - wanted.log_gains[2]) / 0.2

    def less_light(share: float) -> _Wanted:
        return wanted.parts(share, 1.0, 1.0)

    def less_warmth(share: float) -> _Wanted:
        return wanted.parts(1.0, share, 1.0)

    best, kept = wanted.scaled, 0.0
    share = _largest(best, pixels, before, budget)
    for part, held, other in (
        (less_light, light_steps, warm_steps),
        (less_warmth, warm_steps, light_steps),
    ):
        found = _largest(part, pixels, before, budget) if held > 0 else None
        if balance_first and part is less_light and found is not None:
            return part(found), found
        if found is not None and other + held * found > kept:
            best, share, kept = part, found, other + held * found
    return (wanted.scaled(0.0), 0.0) if share is None else (best(share), share)


def _fits(change: _Wanted, pixels: U8, before: SkinReading, budget: float) -> bool:
    after = reading_of(_through(pixels, _table(change)))
    return abs(change_between(before, after).delta_ita) <= budget


def _largest(
    part: Callable[[float], _Wanted], pixels: U8, before: SkinReading, budget: float
) -> float | None:
    """Return the largest share, 0..1, whose change of the skin is within the budget, or None."""
    # A scan, not only halving: with the rest at full, the smallest share need not fit.
    shares = np.linspace(1, 0, 9)
    found = next((float(s) for s in shares if _fits(part(float(s)), pixels, before, budget)), None)
    if found is None or found == 1.0:
        return found
    low, high = found, found + 0.125
    for _ in range(4):
        middle = (low + high) / 2
        low, high = (middle, high) if _fits(part(middle), pixels, before, budget) else (low, middle)
    return low


def _through(pixels: U8, table: U8) -> U8:
    return np.stack([table[pixels[:, k], k] for k in range(3)], axis=1)


def _table(wanted: _Wanted) -> U8:
    gains = np.exp(wanted.log_gains)
    # Balance keeps the luminance of neutral things, so that exposure alone sets it.
    gains = gains / float(gains @ np.array([0.2126, 0.7152, 0.0722]))
    linear = _LINEAR[:, None] * gains[None, :] * 2.0**wanted.stops
    coded = linear_to_srgb(np.asarray(_shoulder(linear), np.float32)).astype(np.float64) / 255
    # After exposure the skin's value has moved; contrast must turn about its new place.
    pivot = float(np.interp(wanted.pivot * 255, np.arange(256), coded[:, 1]))
    pivot = min(max(pivot, 0.08), 0.92)
    above = np.clip((coded - pivot) / (1 - pivot), 0, 1)
    below = np.clip((pivot - coded) / pivot, 0, 1)
    k = wanted.contrast
    curved = np.where(
        coded >= pivot,
        pivot + (1 - pivot) * (above + k * above * (1 - above)),
        pivot - pivot * (below + k * below * (1 - below)),
    )
    return np.asarray(np.clip(np.rint(curved * 255), 0, 255), np.uint8)


def _shoulder(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return highlights rolled off above 0.8 instead of clipped, only where a gain needs it."""
    peak = linear.max(axis=0)
    if float(peak.max()) <= 1.0:
        return linear
    knee = 0.8
    over = np.maximum(linear - knee, 0) / (1 - knee)
    span = np.maximum((peak - knee) / (1 - knee), 1.0)
    # The rational curve x (1 + x / span^2) / (1 + x) of Reinhard et al. 2002: slope 1 at the knee
    # and exactly white at the channel's peak.
    rolled = over * (1 + over / span**2) / (1 + over)
    return np.where(linear > knee, knee + (1 - knee) * rolled, linear)
