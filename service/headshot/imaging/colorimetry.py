"""Colour measures in the terms of the field: CIELAB, ITA, hue, contrast, CCT.

All RGB is sRGB (IEC 61966-2-1, D65). Lab values come from OpenCV's float conversion, whose white
is D65 too, so that #808080 has a* = b* = 0.
"""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colour import linear_to_srgb, srgb_to_linear, unit

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)
_RGB_TO_XYZ = np.array(
    [
        [0.4123908, 0.3575843, 0.1804808],
        [0.2126390, 0.7151687, 0.0721923],
        [0.0193308, 0.1191948, 0.9505322],
    ],
    np.float64,
)
_HEX_COLOUR = re.compile("#[0-9A-Fa-f]{6}")
_XYZ_TO_RGB = np.linalg.inv(_RGB_TO_XYZ)


def to_lab(rgb: U8 | F32) -> F32:
    """Return CIELAB float32 [..., 3]: L* 0..100, a*, b*; input uint8, or float 0..1 sRGB."""
    values = unit(np.asarray(rgb, np.uint8)) if rgb.dtype == np.uint8 else rgb
    # Pixels without a picture as one row: OpenCV begins every row anew.
    image = values.reshape(1, -1, 3) if values.ndim != 3 else values
    lab = cv2.cvtColor(np.ascontiguousarray(image, np.float32), cv2.COLOR_RGB2Lab)
    return np.asarray(lab, np.float32).reshape(values.shape)


def from_lab(lab: F32) -> U8:
    """Return uint8 sRGB from CIELAB float32 [h, w, 3]; out-of-gamut values are clipped."""
    rgb = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    np.multiply(rgb, 255.0, out=rgb)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def luma(rgb: U8) -> U8:
    """Return the Rec. 601 luma, uint8 [h, w] (OpenCV's grey), for gradients and histograms."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def relative_luminance(rgb: U8 | tuple[int, int, int]) -> float:
    """Return the mean Rec. 709 relative luminance, 0..1."""
    return float(srgb_to_linear(np.asarray(rgb, np.uint8)).reshape(-1, 3).mean(axis=0) @ REC709)


def contrast_ratio(first: float, second: float) -> float:
    """Return the WCAG 2 contrast ratio, 1..21, of two relative luminances."""
    high, low = max(first, second), min(first, second)
    return (high + 0.05) / (low + 0.05)


def ita_degrees(lightness: float, b: float) -> float:
    """Return the individual typology angle, atan((L* - 50) / b*), in degrees (Chardon 1991).

    atan2 keeps the angle smooth where b* crosses zero, as it may under a blue light.
    """
    return float(np.degrees(np.arctan2(lightness - 50.0, b)))


def ita_group(ita: float) -> str:
    """Return the skin group of an ITA, bounds 55, 41, 28, 10, -30 (Del Bino & Bernerd 2013)."""
    bounds = ((55, "very light"), (41, "light"), (28, "intermediate"), (10, "tan"), (-30, "brown"))
    return next((name for bound, name in bounds if ita > bound), "dark")


def hue_degrees(a: float, b: float) -> float:
    """Return the CIELAB hue angle h_ab in degrees, -180..180."""
    return float(np.degrees(np.arctan2(b, a)))


def angle_between(first: float, second: float) -> float:
    """Return the smaller signed difference first - second of two angles, degrees -180..180."""
    return float((first - second + 180.0) % 360.0 - 180.0)


def correlated_colour_temperature(linear_rgb: NDArray[np.floating]) -> float:
    """Return the CCT in kelvin of a linear RGB triple, by McCamy's cubic (1992).

    Good to a few kelvin between 2850 and 6500 K and to about 1% up to 12000 K.
    """
    x, y, z = _RGB_TO_XYZ @ np.asarray(linear_rgb, np.float64)
    total = max(x + y + z, 1e-9)
    cx, cy = x / total, y / total
    n = (cx - 0.3320) / (0.1858 - cy)
    return float(449.0 * n**3 + 3525.0 * n**2 + 6823.3 * n + 5520.33)


def daylight_rgb(kelvin: float) -> NDArray[np.float64]:
    """Return the linear sRGB of CIE daylight at a CCT, 4000..25000 K, green scaled to 1."""
    t = float(np.clip(kelvin, 4000, 25000))
    if t <= 7000:
        x = -4.6070e9 / t**3 + 2.9678e6 / t**2 + 0.09911e3 / t + 0.244063
    else:
        x = -2.0064e9 / t**3 + 1.9018e6 / t**2 + 0.24748e3 / t + 0.237040
    y = -3.000 * x * x + 2.870 * x - 0.275
    rgb = _XYZ_TO_RGB @ np.array([x / y, 1.0, (1 - x - y) / y])
    return np.asarray(rgb / rgb[1], np.float64)


def parse_hex(text: str) -> tuple[int, int, int]:
    """Return (r, g, b) of "#RRGGBB"; ValueError where it is not that."""
    # int() alone would take "+12345" and "1_2_34" for six digits.
    if not _HEX_COLOUR.fullmatch(text):
        raise ValueError(f"{text!r} is not a colour of the form #RRGGBB")
    value = int(text[1:], 16)
    return (value >> 16) & 255, (value >> 8) & 255, value & 255


__all__ = [
    "F32",
    "REC709",
    "U8",
    "angle_between",
    "contrast_ratio",
    "correlated_colour_temperature",
    "daylight_rgb",
    "from_lab",
    "hue_degrees",
    "ita_degrees",
    "ita_group",
    "linear_to_srgb",
    "luma",
    "parse_hex",
    "relative_luminance",
    "srgb_to_linear",
    "to_lab",
]
