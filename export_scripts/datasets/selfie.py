"""The teacher of the matting network: MediaPipe selfie segmentation (Apache-2.0), 256x256."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped,unused-ignore]

Floats = npt.NDArray[np.float32]
SIDE = 256


class SelfieSegmenter:
    """Teacher person segmenter on RGB images of any size."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def mask(self, rgb: npt.NDArray[np.uint8]) -> Floats:
        """Return the person probability, float32 [h,w] in 0..1 (bilinear from 256x256)."""
        small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        self._interpreter.set_tensor(self._input, small[None].astype(np.float32) / 255)
        self._interpreter.invoke()
        mask = self._interpreter.get_tensor(self._output)[0, :, :, 0]
        size = (rgb.shape[1], rgb.shape[0])
        return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def row(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the mask of a training photo, uint8 [h,w]."""
        return np.asarray(np.rint(self.mask(rgb) * 255), np.uint8)

    def mask_both_ways(self, rgb: npt.NDArray[np.uint8]) -> Floats:
        """Return the mean of the masks of the photo and of its mirror image."""
        mirrored = self.mask(np.ascontiguousarray(rgb[:, ::-1]))[:, ::-1]
        return np.asarray((self.mask(rgb) + mirrored) / 2, np.float32)
