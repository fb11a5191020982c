"""Write alignment_golden.npz: what insightface's face_align makes of the astronaut portrait.

Run with insightface, scikit-image and the OpenCV of requirements/ installed (OpenCV 5 interpolates
in other steps and differs by up to 4 levels):

    python tests/data/make_alignment_golden.py

The file holds landmarks [n,5,2] float32, sizes [n] int32, matrices [n,2,3] float64 and, for the
cases of 112 pixels, the crops [k,112,112,3] uint8 of the first k.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import skimage.data
from insightface.utils import face_align

FACE = np.array([[200, 99], [245, 96], [226, 124], [206, 146], [244, 143]], dtype=np.float32)
"""Eyes, nose and mouth corners of skimage.data.astronaut(), by eye."""


def cases() -> tuple[np.ndarray, np.ndarray]:
    """Upright, tilted, large, small, off the edge, and shaken; sizes 112 and 224."""
    rng = np.random.default_rng(20)
    middle = FACE.mean(axis=0)

    def turned(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
        a = np.deg2rad(degrees)
        rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        return ((FACE - middle) * scale) @ rotation.T + middle + np.array(shift)

    shapes = [
        FACE,
        turned(35, 1.6, (20, 60)),
        turned(-80, 0.5, (0, 0)),
        turned(10, 2.5, (-190, -60)),
        FACE + rng.normal(0, 6, FACE.shape),
        turned(170, 1.1, (30, 200)),
        FACE + rng.normal(0, 3, FACE.shape),
    ]
    sizes = [112, 112, 112, 112, 112, 224, 448]
    return np.array(shapes, dtype=np.float32), np.array(sizes, dtype=np.int32)


def main() -> None:
    """Compute and write."""
    warnings.simplefilter("ignore", FutureWarning)
    image = skimage.data.astronaut()
    landmarks, sizes = cases()
    pairs = list(zip(landmarks, sizes.tolist(), strict=True))
    matrices = np.array([face_align.estimate_norm(points, size) for points, size in pairs])
    crops = [face_align.norm_crop(image, points, size) for points, size in pairs if size == 112]
    np.savez_compressed(
        Path(__file__).with_name("alignment_golden.npz"),
        landmarks=landmarks,
        sizes=sizes,
        matrices=matrices,
        crops=np.array(crops, dtype=np.uint8),
    )


if __name__ == "__main__":
    main()
