"""How phone photos differ from clean ones: exposure, colour, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def colour_shift(rng: np.random.Generator, image: Bytes, strength: float = 1.0) -> Bytes:
    """Change exposure, gamma, contrast, white balance and saturation by one lookup table."""
    gain = np.exp(rng.normal(0, 0.16 * strength)) * np.exp(rng.normal(0, 0.07 * strength, 3))
    gamma = np.exp(rng.normal(0, 0.22 * strength))
    lift = rng.normal(0, 0.035 * strength)
    ramp = np.linspace(0, 1, 256)[:, None] ** gamma
    table = np.clip((ramp * gain + lift) * 255, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, table[:, None, :]), np.uint8)
    roll = rng.random()
    if roll < 0.3:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
        keep = 0.0 if roll < 0.06 else float(rng.uniform(0.2, 1.5))
        mixed = image.astype(np.float32) * keep + grey.astype(np.float32) * (1 - keep)
        image = np.clip(mixed, 0, 255).astype(np.uint8)
    return image


def degrade(rng: np.random.Generator, image: Bytes, strength: float = 1.0) -> Bytes:
    """Apply colour shift, then now and then low light, blur, sensor noise and JPEG."""
    image = colour_shift(rng, image, strength)
    height, width = image.shape[:2]
    if rng.random() < 0.12 * strength:  # low light: dark and noisy
        dark = image.astype(np.float32) * float(rng.uniform(0.2, 0.6))
        image = np.clip(dark, 0, 255).astype(np.uint8)
    roll = rng.random()
    if roll < 0.10:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.8))), np.uint8)
    elif roll < 0.18:
        factor = float(rng.uniform(0.35, 0.8))
        size = (max(8, int(width * factor)), max(8, int(height * factor)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        image = np.asarray(
            cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    if rng.random() < 0.2:
        sigma = float(rng.uniform(2, 14))
        noise = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
        cv2.randn(noise, np.zeros(3), np.full(3, sigma))
        image = np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)
    if rng.random() < 0.25:
        flags = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
        coded = cv2.imencode(".jpg", image, flags)[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image
