"""Training photos for the matting network: composites with known alpha, and labelled photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from export_scripts.datasets.packed import Pack, fit_within
from export_scripts.datasets.sources import VIKRAM
from export_scripts.training.photo_noise import colour_shift, degrade

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Sample = tuple[Bytes, Bytes, Bytes]  # image [S,S,3], alpha [S,S], confidence [S,S]


class Window:
    """A random part of a photo, and the affine map from it to the canvas."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        side: int,
        face: list[float] | None,
        beyond: float,
    ) -> None:
        height, width = size
        longest = max(height, width)
        if face is not None and rng.random() < 0.75:
            extent = max(face[3] - face[1], 8.0)
            edge = extent * float(np.exp(rng.uniform(np.log(1.0), np.log(10.0))))
            centre_x = (face[0] + face[2]) / 2 + rng.normal(0, 0.12) * edge
            centre_y = (face[1] + face[3]) / 2 + (rng.normal(0.08, 0.10)) * edge
        else:
            edge = longest * float(np.exp(rng.uniform(np.log(0.45), np.log(beyond))))
            centre_x = width / 2 + rng.uniform(-0.5, 0.5) * abs(width - edge)
            centre_y = height / 2 + rng.uniform(-0.5, 0.5) * abs(height - edge)
        aspect = float(np.exp(rng.normal(0, 0.18)))
        across, down = edge * aspect**0.5, edge / aspect**0.5
        # Keep the window on the photo as far as it fits.
        centre_x = _keep_on(centre_x, across, width)
        centre_y = _keep_on(centre_y, down, height)
        angle = np.deg2rad(rng.normal(0, 6)) if rng.random() < 0.4 else 0.0
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        scale = np.diag([mirror * side / across, side / down])
        linear = scale @ np.array([[cos, -sin], [sin, cos]])
        shift = side / 2 - linear @ np.array([centre_x, centre_y])
        self.matrix = np.concatenate([linear, shift[:, None]], 1)
        self.side = side
        self.zoom = side / edge

    def apply(self, image: Bytes, border: int) -> Bytes:
        """Cut the window out of `image`, with an area filter where it shrinks."""
        matrix, zoom = self.matrix.copy(), self.zoom
        while zoom < 0.55:
            image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=3), np.uint8)
            matrix[:, :2] *= 2
            zoom *= 2
        size = (self.side, self.side)
        flags = cv2.INTER_LINEAR
        return np.asarray(cv2.warpAffine(image, matrix, size, flags=flags, borderMode=border))


def _keep_on(centre: float, extent: float, length: int) -> float:
    if extent >= length:
        return length / 2
    return float(np.clip(centre, extent / 2, length - extent / 2))


class MattingSamples:
    """Endless stream of photos with alpha: `sample(rng, side)`.

    With `longest`, decoded photos are kept in memory at no more than that many pixels a side
    (448: about 4 GB), because decoding would cost as much as learning from them. `composites` is
    the share of people over another background, `cloth` that of drawn cloth among backgrounds.
    """

    def __init__(
        self,
        data: Path,
        longest: int | None = None,
        *,
        degradation: float = 0.8,
        composites: float = 0.36,
        cloth: float = 0.14,
    ) -> None:
        self.longest, self.degradation = longest, degradation
        self.composites, self.cloth = composites, cloth
        self._decoded: dict[tuple[int, int, str], Bytes] = {}
        self._shrunk: dict[tuple[int, int], float] = {}
        self.mattes = Pack(data / "mattes")
        self.masks = Pack(data / "masks")
        self.wild = Pack(data / "wild")
        self.figures = Pack(data / "figures")
        self.people = Pack(data / "people")
        # Several people, or somebody far away: a tenth of these photos, a third of their draws.
        self._far = [
            i for i, r in enumerate(self.people.records) if r["key"].startswith(f"{VIKRAM.name}/")
        ]
        empty = (Pack(data / "backgrounds"), Pack(data / "streets"))
        self._places = [(pack, index) for pack in empty for index in range(len(pack))]
        self._scenes: dict[int, Bytes] = {}
        self._plain = [i for i, r in enumerate(self.mattes.records) if r["plain"]]
        self._other = [
            i
            for i, r in enumerate(self.mattes.records)
            if not r["plain"] and r["agreement"] > 0.975
        ]

    def sample(self, rng: np.random.Generator, side: int) -> Sample:
        """Return image uint8 [side,side,3], alpha and confidence uint8 [side,side]."""
        kind = rng.random()  # of what is no composite
        if rng.random() < self.composites:
            sample = self._composite(rng, side)
        elif kind < 0.05:
            sample = self._photo(rng, side, self.figures)
        elif kind < 0.25:
            sample = self._photo(rng, side, self.masks)
        elif kind < 0.58:
            sample = self._photo(rng, side, self.people)
        elif kind < 0.81:
            sample = self._photo(rng, side, self.wild)
        elif kind < 0.95:
            sample = self._photo(rng, side, self.mattes)
        else:
            image = self._background(rng, side)
            sample = image, np.zeros((side, side), np.uint8), np.full((side, side), 255, np.uint8)
        image, alpha, confidence = sample
        return degrade(rng, image, self.degradation), alpha, confidence

    def _read(self, pack: Pack, index: int, name: str) -> Bytes:
        """Decode one blob, or take it from memory."""
        key = (id(pack), index, name)
        if key in self._decoded:
            return self._decoded[key]
        colour = name in ("image", "colour")
        content = pack.image(index, name) if colour else pack.mask(index, name)
        if self.longest is not None:
            small = fit_within(content, self.longest)
            self._shrunk[id(pack), index] = len(small) / len(content)
            self._decoded[key] = content = small
        return content

    def _face(self, pack: Pack, index: int) -> list[float] | None:
        """The face's box in pixels of what `_read` returned for this record."""
        face: list[float] | None = pack.records[index].get("face")
        shrunk = self._shrunk.get((id(pack), index), 1.0)
        return None if face is None else [value * shrunk for value in face]

    def _background(self, rng: np.random.Generator, side: int) -> Bytes:
        roll = rng.random()
        if roll < 0.18:
            return backdrop(rng, side)
        if roll < 0.18 + self.cloth:
            return colour_shift(rng, drapery(rng, side))
        index = int(rng.integers(len(self._places)))
        if index not in self._scenes:
            pack, place = self._places[index]
            self._scenes[index] = fit_within(pack.image(place), 720)
        photo = self._scenes[index]
        window = Window(rng, photo.shape[:2], side, None, 1.0)
        image = window.apply(photo, cv2.BORDER_REFLECT_101)
        if rng.random() < 0.45:  # out of focus, as behind a portrait
            sigma = float(np.exp(rng.uniform(np.log(0.8), np.log(9)))) * side / 512
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
        return colour_shift(rng, image)

    def _composite(self, rng: np.random.Generator, side: int) -> Sample:
        roll = rng.random()
        if roll < 0.55:
            chosen = self._plain if roll < 0.33 or not self._other else self._other
            index = int(rng.choice(chosen))
            pack = self.mattes
            colour, alpha = self._read(pack, index, "colour"), self._read(pack, index, "alpha")
        else:
            pack = (self.masks, self.people, self.wild)[int(rng.choice(3, p=(0.45, 0.4, 0.15)))]
            index = int(rng.integers(len(pack)))
            colour, alpha = self._read(pack, index, "image"), self._read(pack, index, "alpha")
        confidence = self._read(pack, index, "confidence")
        face = self._face(pack, index)
        touches_side = max(float(alpha[:, 0].mean()), float(alpha[:, -1].mean())) > 12
        window = Window(rng, alpha.shape, side, face, 1.0 if touches_side else 2.0)
        # Replicated borders: a person cut by the photo's edge goes on to the canvas's edge.
        colour, alpha, confidence = (
            window.apply(part, cv2.BORDER_REPLICATE) for part in (colour, alpha, confidence)
        )
        if pack is not self.mattes:
            colour = fused_foreground(colour, alpha)
        background = self._background(rng, side)
        colour = colour_shift(rng, colour, 0.8)
        weight = alpha.astype(np.float32) * np.float32(1 / 255)
        image = cv2.blendLinear(colour, background, weight, 1 - weight)
        return np.asarray(image, np.uint8), alpha, confidence

    def _photo(self, rng: np.random.Generator, side: int, pack: Pack) -> Sample:
        index = int(rng.integers(len(pack)))
        if pack is self.people and self._far and rng.random() < 0.35:
            index = int(rng.choice(self._far))
        image, alpha, confidence = (
            self._read(pack, index, name) for name in ("image", "alpha", "confidence")
        )
        window = Window(rng, alpha.shape, side, self._face(pack, index), 1.15)
        border = cv2.BORDER_REFLECT_101
        image, alpha, confidence = (
            window.apply(part, border) for part in (image, alpha, confidence)
        )
        return image, alpha, confidence


def backdrop(rng: np.random.Generator, side: int) -> Bytes:
    """Return a plain or softly shaded wall, uint8 [side,side,3]."""
    corners = rng.uniform(0, 255, 3) + rng.normal(0, 25, (2, 2, 3))
    wall = cv2.resize(corners.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(wall, 0, 255).astype(np.uint8)


def drapery(rng: np.random.Generator, side: int) -> Bytes:
    """Return hanging cloth, plain or striped, with folds: curtains and flags, uint8 [side,side,3].

    Cloth behind a person looks like clothes on one, and photos without people hold little of it.
    """
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    wander = rng.normal(0, 0.06, (5, 5, 2)).astype(np.float32)
    wander = cv2.resize(wander, (side, side), interpolation=cv2.INTER_CUBIC)
    lean = rng.normal(0, 0.25)
    across = x + lean * y + wander[..., 0]
    # Folds hang down; stripes run at any angle, in units of the frame.
    folds = rng.uniform(2, 9)
    shade = 1 + rng.uniform(0.1, 0.45) * np.sin(2 * np.pi * (folds * across + rng.random()))
    shade += rng.uniform(0, 0.2) * np.sin(2 * np.pi * (2.3 * folds * across + rng.random()))
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * across + np.sin(angle) * (y + 0.5 * wander[..., 1])
    along += 0.05 * np.sin(2 * np.pi * folds * across)  # a stripe follows the folds
    colours = rng.uniform(0, 255, (int(rng.integers(1, 4)), 3)).astype(np.float32)
    if rng.random() < 0.35:  # the colours of most flags
        named = np.array([[170, 25, 40], [235, 232, 228], [30, 40, 95], [225, 180, 40]], np.float32)
        colours = rng.permutation(named)[: len(colours)]
    stripes = np.floor(along * rng.uniform(3, 16) + rng.random()).astype(np.int64)
    cloth = np.asarray(colours[stripes % len(colours)], np.float32)
    if rng.random() < 0.45:
        cloth = _starred(rng, cloth, along, wander)
    sigma = float(rng.uniform(0.4, 3.0)) * side / 512
    cloth = np.asarray(cv2.GaussianBlur(cloth * shade[..., None], (0, 0), sigma), np.float32)
    if rng.random() < 0.5:  # it hangs at one side, before a wall
        wall = backdrop(rng, side).astype(np.float32)
        edge = (x - rng.uniform(0.15, 0.75) + 0.3 * lean * y + wander[..., 1]) * side / 2
        covered = np.clip(edge if rng.random() < 0.5 else -edge, 0, 1)[..., None]
        cloth = cloth * covered + wall * (1 - covered)
    return np.clip(cloth, 0, 255).astype(np.uint8)


def _starred(rng: np.random.Generator, cloth: Floats, along: Floats, wander: Floats) -> Floats:
    """Return the cloth with a field of stars on all or a part of it, as [side,side,3].

    A star of a flag beside an ear is white as grey hair is, and lies as close.
    """
    side = len(cloth)
    spacing = rng.uniform(0.06, 0.2) * side
    radius = spacing * rng.uniform(0.25, 0.48)
    # Folds squeeze stars across, and the cloth hangs at any angle.
    squeeze, turn = rng.uniform(0.35, 1.0), rng.normal(0, 0.5)
    points = np.arange(10) * np.pi / 5
    reach = np.where(np.arange(10) % 2, 0.4, 1.0)
    outline = np.stack([np.sin(points), -np.cos(points)], axis=1) * reach[:, None]
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    stars = np.zeros((side, side), np.uint8)
    count = int(1.5 * side / spacing)
    for row in range(-count, count + 1):
        for column in range(-count, count + 1):
            flat = np.array([(column + 0.5 * (row % 2)) * squeeze, 0.8 * row]) * spacing
            centre = axes @ flat + side / 2
            if not np.all((centre > -radius) & (centre < side + radius)):
                continue
            own = rng.normal(0, 0.2)
            twist = np.array([[np.cos(own), -np.sin(own)], [np.sin(own), np.cos(own)]])
            corners = (axes @ (twist @ (outline * [squeeze, 1]).T * radius)).T + centre
            corners = np.rint(corners * 16).astype(np.int32)
            cv2.fillPoly(stars, [corners], 255, cv2.LINE_AA, 4)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    moved = x + side * wander[..., 0], y + side * wander[..., 1]
    stars = np.asarray(cv2.remap(stars, *moved, cv2.INTER_LINEAR), np.uint8)
    dark = rng.uniform(0, 110, 3) if rng.random() < 0.5 else np.array([28.0, 38.0, 90.0])
    light = rng.uniform(170, 255, 3) if rng.random() < 0.4 else np.array([232.0, 230.0, 226.0])
    share = stars[..., None].astype(np.float32) / 255
    field = np.asarray(dark + share * (light - dark), np.float32)
    if rng.random() < 0.6:
        threshold = np.quantile(along, rng.uniform(0.2, 0.8))
        field = np.where((along > threshold)[..., None], field, cloth)
    return np.asarray(field, np.float32)


def fused_foreground(image: Bytes, alpha: Bytes) -> Bytes:
    """Estimate the person's colour where alpha is soft (blur fusion, Forte, 2021)."""
    picture = image.astype(np.float32)
    weight = alpha.astype(np.float32)[..., None] / 255
    foreground, background = picture, picture
    for size in (61, 7):
        blurred_weight = cv2.blur(weight, (size, size))[..., None]
        near = cv2.blur(foreground * weight, (size, size)) / (blurred_weight + 1e-4)
        far = cv2.blur(background * (1 - weight), (size, size)) / (1 - blurred_weight + 1e-4)
        correction = picture - weight * near - (1 - weight) * far
        foreground = np.clip(near + weight * correction, 0, 255)
        background = np.clip(far, 0, 255)
    return np.asarray(foreground, np.uint8)
