"""Random views of aligned faces: geometry, light, focus, compression, and blends of two faces."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from export_scripts.datasets.faces import CROP_SIZE, FACE_SIZE

Image = npt.NDArray[np.uint8]


class Augmenter:
    """Draws views from lists of crops (each uint8 ``[N, 128, 128, 3]``), seeded.

    ``index`` is int ``[M, 2]``: list and row of every face that may be drawn; a row that occurs
    twice is drawn twice as often. ``strength`` scales how often and how far a view departs from its
    crop; it may be changed at any time.
    """

    def __init__(self, crops: list[Image], index: npt.NDArray[np.int64], seed: int) -> None:
        self._crops = crops
        self._index = index
        self._rng = np.random.default_rng(seed)
        self._order = np.empty((0,), np.int64)
        self.strength = 1.0

    def batch(self, size: int) -> Image:
        """``size`` views, uint8 RGB planar ``[size, 3, 112, 112]``."""
        views = np.stack([self.view() for _ in range(size)])
        return np.ascontiguousarray(views.transpose(0, 3, 1, 2))

    def view(self) -> Image:
        """One view, uint8 RGB ``[112, 112, 3]``."""
        rng = self._rng
        face = self._flipped()
        if rng.random() < 0.3 * self.strength:
            face = self._blend(face, self._flipped())
        view = self._geometry(face)
        if rng.random() < 0.6 * self.strength:
            view = self._light(view)
        if rng.random() < 0.3 * self.strength:
            view = self._focus(view)
        if rng.random() < 0.25 * self.strength:
            quality = int(rng.integers(25, 90))
            _, coded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, quality])
            view = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        return view

    def _flipped(self) -> Image:
        if self._order.size == 0:
            self._order = self._rng.permutation(len(self._index))
        source, row = self._index[self._order[0]]
        self._order = self._order[1:]
        face = self._crops[source][row]
        return np.ascontiguousarray(face[:, ::-1]) if self._rng.random() < 0.5 else face

    def _blend(self, face: Image, other: Image) -> Image:
        """A smooth random mask takes parts of one aligned face and parts of the other."""
        rng = self._rng
        if rng.random() < 0.4:
            amount = np.float32(rng.uniform(0.2, 0.5))
            return cv2.addWeighted(face, float(1 - amount), other, float(amount), 0).astype(
                np.uint8
            )
        coarse = rng.normal(size=(4, 3)).astype(np.float32) * 2.5
        side = (CROP_SIZE, CROP_SIZE)
        mask = cv2.resize(coarse, side, interpolation=cv2.INTER_CUBIC)
        mask = 1 / (1 + np.exp(-2 * mask))[..., None]
        mixed = other + (face.astype(np.float32) - other) * mask
        return mixed.astype(np.uint8)

    def _geometry(self, face: Image) -> Image:
        rng = self._rng
        far = self.strength
        angle, scale = rng.normal(0, 4 * far), np.exp(rng.normal(0, 0.04 * far))
        shift = rng.normal(0, 1.5 * far, 2)
        matrix = cv2.getRotationMatrix2D((CROP_SIZE / 2, CROP_SIZE / 2), angle, scale)
        matrix[0, 1] += rng.normal(0, 0.03 * far)
        matrix[:, 2] = matrix[:, 2] + shift - (CROP_SIZE - FACE_SIZE) / 2
        return cv2.warpAffine(face, matrix, (FACE_SIZE, FACE_SIZE)).astype(np.uint8)

    def _light(self, view: Image) -> Image:
        rng = self._rng
        levels = np.arange(256, dtype=np.float32) / 255
        far = self.strength
        gamma, gain = np.exp(rng.normal(0, 0.3 * far)), np.exp(rng.normal(0, 0.15 * far))
        colour = np.exp(rng.normal(0, 0.07 * far, 3))
        curve = np.stack([gain * c * levels**gamma for c in colour], 1)
        table = np.clip(curve * 255, 0, 255).astype(np.uint8)[None]
        view = cv2.LUT(view, table).astype(np.uint8)
        if rng.random() < 0.2:
            grey = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
            amount = np.float32(rng.uniform(0.3, 1))
            view = (view + (grey - view) * amount).astype(np.uint8)
        return view

    def _focus(self, view: Image) -> Image:
        rng = self._rng
        if rng.random() < 0.4:
            return cv2.GaussianBlur(view, (0, 0), float(rng.uniform(0.4, 1.8))).astype(np.uint8)
        side = int(rng.integers(40, FACE_SIZE))
        small = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
        noisy = small + rng.normal(0, rng.uniform(0, 8), small.shape)
        small = np.clip(noisy, 0, 255).astype(np.uint8)
        large = cv2.resize(small, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)
        return np.asarray(large, np.uint8)
