"""What phones do to portraits: blur, noise, low light, small faces, JPEG. Seeded, on uint8 RGB.

Noise is Poisson-Gaussian in linear light (Foi et al. 2008), with a share that is correlated over
neighbouring pixels and stronger in colour than in luminance, as demosaicing and the phone's own
noise reduction leave it. sRGB transfer curves are those of IEC 61966-2-1.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Degradation = Callable[[Floats, np.random.Generator], Floats]

_CODES = np.linspace(0, 1, 1024, dtype=np.float32)
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
_LIGHT = np.linspace(0, 1, 4096, dtype=np.float32)
_SRGB = np.where(
    _LIGHT <= 0.0031308, _LIGHT * 12.92, 1.055 * np.maximum(_LIGHT, 1e-9) ** (1 / 2.4) - 0.055
)


def to_linear(srgb: Floats) -> Floats:
    """SRGB 0..1 to linear light 0..1: straight lines between 1,024 codes."""
    place = np.clip(srgb, 0, 1) * np.float32(len(_CODES) - 1)
    below = np.minimum(place.astype(np.int32), len(_CODES) - 2)
    start = _LINEAR[below]
    return np.asarray(start + (place - below) * (_LINEAR[below + 1] - start), np.float32)


def to_srgb(linear: Floats) -> Floats:
    """Linear light 0..1 (clipped) to sRGB 0..1."""
    index = (np.clip(linear, 0, 1) * np.float32(4095) + np.float32(0.5)).astype(np.int32)
    # The curve is steep near black: 4096 steps keep the error below half an 8-bit code there.
    return _SRGB[index].astype(np.float32)


def _odd(value: float) -> int:
    return 2 * int(np.ceil(value)) + 1


def motion_blur(image: Floats, random: np.random.Generator, length: float | None = None) -> Floats:
    """A hand's shake: a slightly curved stroke of 3 to 13 pixels in a random direction."""
    length = float(random.uniform(3, 13)) if length is None else length
    size = _odd(length / 2 + 1)
    angle, bend = random.uniform(0, np.pi), random.uniform(-0.3, 0.3)
    steps = np.linspace(-0.5, 0.5, 33)
    x = steps * length * np.cos(angle + bend * steps) + size // 2
    y = steps * length * np.sin(angle + bend * steps) + size // 2
    kernel = np.zeros((size, size), np.float32)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - (x - left)) * np.abs(1 - dy - (y - top))
            column, row = np.clip(left + dx, 0, size - 1), np.clip(top + dy, 0, size - 1)
            np.add.at(kernel, (row, column), weight)
    return _filter(image, kernel)


def defocus_blur(image: Floats, random: np.random.Generator, radius: float | None = None) -> Floats:
    """A disc of confusion of 0.8 to 3.5 pixels' radius with a soft rim."""
    radius = float(random.uniform(0.8, 3.5)) if radius is None else radius
    half = _odd(radius) // 2 + 1
    grid = np.arange(-half, half + 1)
    distance = np.hypot(grid[:, None], grid[None])
    return _filter(image, np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32))


def _filter(image: Floats, kernel: Floats) -> Floats:
    blurred = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.float32)


def sensor_noise(
    image: Floats, random: np.random.Generator, level: float | None = None, gain: float = 1.0
) -> Floats:
    """Poisson-Gaussian noise in linear light after dividing the exposure by ``gain``.

    ``level`` is the standard deviation at middle grey for gain 1, about 0.01 (daylight) to 0.08
    (indoors at night). With a gain g less light is gathered: shot noise grows by sqrt(g), read
    noise by g, and the image keeps its brightness.
    """
    level = float(np.exp(random.uniform(np.log(0.012), np.log(0.08)))) if level is None else level
    linear = to_linear(image)
    shape = linear.shape
    shot, read = level * level / 0.2 * 0.35, level * 0.12
    sigma = np.sqrt(shot * linear * gain + (read * gain) ** 2)
    noise = random.standard_normal(shape, dtype=np.float32)
    correlation = float(random.uniform(0, 1))
    if correlation > 0.3:
        sigma_blur = 0.4 + 0.5 * correlation
        soft = cv2.GaussianBlur(noise, (5, 5), sigma_blur)
        noise = np.asarray(soft / max(float(soft.std()), 1e-6), np.float32)
    grey = noise.mean(axis=2, keepdims=True) * np.float32(1.2)
    noise = grey + (noise - grey) * np.float32(random.uniform(0.5, 1.1))
    if random.random() < 0.5:
        # Blotches of colour: chroma noise at a quarter of the resolution.
        small = random.standard_normal((-(-shape[0] // 4), -(-shape[1] // 4), 3), dtype=np.float32)
        small -= small.mean(axis=2, keepdims=True)
        blotches = cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
        noise = noise + blotches * np.float32(random.uniform(0.1, 0.5))
    return to_srgb((linear + sigma * noise).astype(np.float32))


def low_light(image: Floats, random: np.random.Generator) -> Floats:
    """Two to four stops less light, gained up by the camera to 80 to 100% of its brightness."""
    kept = np.float32(random.uniform(0.8, 1.0))
    gain = float(random.uniform(2, 8))
    warm = np.array([1.0, 1.0, random.uniform(0.85, 1.0)], np.float32)
    dark = to_srgb(to_linear(image) * kept * warm)
    return sensor_noise(dark, random, level=float(random.uniform(0.015, 0.04)), gain=gain)


def jpeg(image: Floats, random: np.random.Generator, quality: int | None = None) -> Floats:
    """JPEG, quality 30 to 70, colour at half resolution in three of four cases."""
    quality = int(random.integers(30, 71)) if quality is None else quality
    sampling = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        if random.random() < 0.75
        else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    )
    codes = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", codes[..., ::-1], flags)
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(decoded[..., ::-1].astype(np.float32) / 255, np.float32)


def small_face(image: Floats, random: np.random.Generator, factor: float | None = None) -> Floats:
    """A face that was small in its photo: reduced 1.4 to 4 times, then enlarged again."""
    factor = float(np.exp(random.uniform(np.log(1.4), np.log(4.0)))) if factor is None else factor
    height, width = image.shape[:2]
    size = (max(8, round(width / factor)), max(8, round(height / factor)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)
    if random.random() < 0.5:
        small = jpeg(small, random, int(random.integers(60, 96)))
    method = cv2.INTER_CUBIC if random.random() < 0.6 else cv2.INTER_LINEAR
    return np.clip(cv2.resize(small, (width, height), interpolation=method), 0, 1)


def sharpen(image: Floats, random: np.random.Generator) -> Floats:
    """The phone's own unsharp mask, with its halos."""
    blurred = cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.8, 1.6)))
    return np.clip(image + (image - blurred) * np.float32(random.uniform(0.3, 1.0)), 0, 1)


def phone(image: Floats, random: np.random.Generator) -> Floats:
    """A random chain in the order of a camera: blur, light and noise, scale, sharpening, JPEG."""
    if random.random() < 0.45:
        image = (motion_blur if random.random() < 0.5 else defocus_blur)(image, random)
    if random.random() < 0.25:
        image = low_light(image, random)
    elif random.random() < 0.6:
        image = sensor_noise(image, random)
    if random.random() < 0.3:
        image = small_face(image, random)
    if random.random() < 0.15:
        image = sharpen(image, random)
    if random.random() < 0.7:
        image = jpeg(image, random)
    return image


def nearly_clean(image: Floats, random: np.random.Generator) -> Floats:
    """A good photo: light JPEG, a little noise, or nothing at all."""
    if random.random() < 0.3:
        image = sensor_noise(image, random, level=float(random.uniform(0.003, 0.012)))
    if random.random() < 0.5:
        image = jpeg(image, random, int(random.integers(80, 98)))
    return image


# The conditions of the evaluation, each by itself; "mixed" is the training's own chain.
CONDITIONS: dict[str, Degradation] = {
    "noise": sensor_noise,
    "jpeg": jpeg,
    "motion": lambda x, r: jpeg(motion_blur(x, r), r, 80),
    "defocus": lambda x, r: jpeg(defocus_blur(x, r), r, 80),
    "low_light": lambda x, r: jpeg(low_light(x, r), r, 75),
    "small_face": lambda x, r: jpeg(small_face(x, r), r, 80),
    "mixed": phone,
}


def apply(degradation: Degradation, picture: Picture, random: np.random.Generator) -> Picture:
    """A degradation on 8-bit RGB [H, W, 3]."""
    image = degradation(np.asarray(picture.astype(np.float32) / 255, np.float32), random)
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255), np.uint8)


def training_degradation(random: np.random.Generator, clean_share: float = 0.15) -> Degradation:
    """Nearly clean in ``clean_share`` of the draws, else one condition or a whole chain."""
    if random.random() < clean_share:
        return nearly_clean
    if random.random() < 0.65:
        names = [name for name in CONDITIONS if name != "mixed"]
        return CONDITIONS[names[int(random.integers(len(names)))]]
    return phone
