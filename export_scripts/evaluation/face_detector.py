"""Metrics of the face detector: LFW, London, sizes, landmarks against the teacher, false faces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.datasets.packed import decode_rgb
from export_scripts.datasets.snapshots import snapshot_root
from export_scripts.datasets.sources import (
    BUDGIE,
    HOUSES,
    KODAK,
    LFW,
    LONDON,
    OFFICIAL,
    UTKFACE,
    WALLPAPERS,
    read_source,
)
from export_scripts.datasets.yunet import Floats, YuNet, box_iou, non_maximum_suppression
from export_scripts.evaluation.runtime import Bytes, Graph, letterbox, parameters
from export_scripts.metrics import Metric

NAME = "face_detector"
CANVAS = 640
# Kodak photos in which people are seen (found by looking); the statue of 17 stays in the test.
KODAK_WITH_PEOPLE = ("4", "5", "12", "14", "15", "18")
BUDGIE_WITH_PEOPLE = ("egg-basket",)  # a painted woman
LANDMARKS_EVERY = 8
LFW_SCALES = (160, 250)  # longest sides at which the teacher sees an LFW photo
SAME_FACE = 0.4  # overlap (IoU) from which two boxes are of one face
INTERIORS_EVERY = 10
HEIGHTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)


@dataclass
class Detector:
    """The served graph with the thresholds of its config."""

    graph: Graph
    score_threshold: float
    nms_iou: float

    @classmethod
    def load(cls, repository: Path) -> Detector:
        """Read the model folder `repository`/face_detector."""
        folder = repository / NAME
        values = parameters(folder / "config.pbtxt")
        graph = Graph(folder / "1" / "model.onnx")
        return cls(graph, float(values["score_threshold"]), float(values["nms_iou"]))

    def detect(self, rgb: Bytes, threshold: float | None = None) -> Floats:
        """Return faces in photo pixels, float32 [n,15] (box, landmarks, score), best first."""
        canvas, scale = letterbox(rgb, CANVAS)
        boxes, scores, points = self.graph.run(canvas[None])
        rows = np.concatenate([boxes[0], points[0].reshape(-1, 10), scores[0][:, None]], 1)
        rows = rows[rows[:, 14] >= (self.score_threshold if threshold is None else threshold)]
        rows = non_maximum_suppression(rows.astype(np.float32), self.nms_iou)
        rows[:, :14] /= scale
        return rows


@dataclass
class Tally:
    """Counts over photos that hold a face the teacher knows."""

    photos: int = 0
    found: int = 0
    errors: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(self, key: str, faces: Floats, truth: Floats) -> None:
        """Compare detections with the teacher's main face [15 or more]."""
        self.photos += 1
        overlap = box_iou(faces[:, :4], truth[None, :4])[:, 0] if len(faces) else np.zeros(0)
        if not len(overlap) or overlap.max() < SAME_FACE:
            self.missed.append(key)
            return
        self.found += 1
        self.errors.append(landmark_error(faces[int(overlap.argmax())], truth))

    @property
    def share(self) -> float:
        """Share of photos in which the main face was found, in per cent."""
        return 100 * self.found / max(self.photos, 1)


def landmark_error(face: Floats, truth: Floats) -> float:
    """Mean distance of the five landmarks over the teacher's inter-eye distance, in per cent."""
    first, second = face[4:14].reshape(5, 2), truth[4:14].reshape(5, 2)
    eyes = float(np.linalg.norm(second[0] - second[1]))
    return float(np.linalg.norm(first - second, axis=1).mean()) / max(eyes, 1e-3) * 100


def main_face(rows: Floats, shape: tuple[int, ...]) -> Floats | None:
    """Return the large central face the photo is of, or None where the teacher sees none."""
    rows = rows[rows[:, 14] > 0.5]
    if not len(rows):
        return None
    extent = rows[:, 3] - rows[:, 1]
    centre = (rows[:, :2] + rows[:, 2:4]) / 2 - np.array([shape[1], shape[0]]) / 2
    return np.asarray(rows[int(np.argmax(extent - 0.5 * np.linalg.norm(centre, axis=1)))])


def photos(source: Iterable[tuple[str, bytes]], longest: int) -> Iterator[tuple[str, Bytes]]:
    """Decode, leaving out what is no image."""
    for path, data in source:
        rgb = decode_rgb(data, longest)
        if rgb is not None:
            yield path, rgb


def finding(detector: Detector, teacher: YuNet, data: Path, every: int) -> list[Metric]:
    """LFW and London (see `london`): main faces found; landmark distance to the teacher.

    LFW photos are centred on the person: a face that covers the centre is the one. The teacher
    is asked at every `every`-th photo, and of the photo's mirror image too: how far it is from
    itself is the part of the distance that no network can learn away.
    """
    count, found, errors, own = 0, 0, [], []
    for path, rgb in tqdm(
        photos(read_source(data, LFW, test=True), 1024), desc="LFW", mininterval=30
    ):
        faces = detector.detect(rgb)
        middle = np.array([rgb.shape[1], rgb.shape[0]], np.float32) / 2
        covers = (faces[:, :2] < middle).all(1) & (faces[:, 2:4] > middle).all(1)
        found += bool(covers.any())
        if not covers.any():
            print(f"missed {path}")
        if count % every == 0:
            truth = main_face(teacher.detect_at_scales(rgb, LFW_SCALES), rgb.shape)
            tally = Tally()
            if truth is not None:
                tally.add(path, faces, truth)
                errors += tally.errors
                own += mirror_distance(teacher, rgb, truth)
        count += 1
    unit = "% of eye distance"
    name = f"LFW landmarks to teacher ({len(errors)} faces)"
    metrics = [
        Metric(NAME, f"LFW found ({count} photos)", 100 * found / max(count, 1), "%", 99.5),
        Metric(NAME, f"{name}, mean", float(np.mean(errors)), unit, 4.0, "lower"),
        Metric(NAME, f"{name}, 95%", float(np.quantile(errors, 0.95)), unit, None, "lower"),
        Metric(NAME, "LFW landmarks, teacher to its mirror image", float(np.mean(own)), unit),
    ]
    halves = {True: Tally(), False: Tally()}
    for test, tally in halves.items():
        for path, rgb in photos(read_source(data, LONDON, test=test), 1024):
            truth = main_face(teacher.detect_at_scales(rgb), rgb.shape)
            if truth is not None:
                tally.add(path, detector.detect(rgb), truth)
    return [*metrics, *london(halves[True], halves[False])]


def london(held_out: Tally, trained_on: Tally) -> list[Metric]:
    """Return the figures of the London set; landmarks of people that training left out come first.

    Photos that training saw flatter a network: their landmarks are told apart, and so named.
    """
    every = held_out.photos + trained_on.photos
    found = 100 * (held_out.found + trained_on.found) / max(every, 1)
    metrics = [Metric(NAME, f"London found ({every} photos)", found, "%", 100.0)]
    for name, tally in (("held-out people", held_out), ("training photos", trained_on)):
        if tally.errors:
            label = f"London landmarks to teacher, {name} ({len(tally.errors)} photos), mean"
            value = float(np.mean(tally.errors))
            metrics.append(Metric(NAME, label, value, "% of eye distance", None, "lower"))
    return metrics


def mirror_distance(teacher: YuNet, rgb: Bytes, truth: Floats) -> list[float]:
    """Distance of the teacher's landmarks of a mirrored photo to its own; empty if not found."""
    rows = teacher.detect_at_scales(np.ascontiguousarray(rgb[:, ::-1]), LFW_SCALES)
    other = main_face(rows, rgb.shape)
    if other is None:
        return []
    corners = np.stack([rgb.shape[1] - other[[2, 0]], other[[1, 3]]], 1)
    points = other[4:14].reshape(5, 2)[[1, 0, 2, 4, 3]] * [-1, 1] + [rgb.shape[1], 0]
    back = np.concatenate([corners.reshape(-1), points.reshape(-1)]).astype(np.float32)
    if box_iou(back[None, :4], truth[None, :4])[0, 0] < SAME_FACE:
        return []
    return [landmark_error(back, truth)]


def sizes(detector: Detector, teacher: YuNet, data: Path) -> list[Metric]:
    """Held-out portraits scaled so that the face takes a given share of the frame's height."""
    tallies = {height: Tally() for height in HEIGHTS}
    rng = np.random.default_rng(0)
    sources = [(source, 1) for source in OFFICIAL] + [(LONDON, 2)]
    for source, every in sources:
        for path, rgb in photos(read_source(data, source, test=True, every=every), 1024):
            truth = main_face(teacher.detect_at_scales(rgb), rgb.shape)
            if truth is None:
                continue
            for height, tally in tallies.items():
                framed, moved = reframe(rng, rgb, truth, height)
                tally.add(path, detector.detect(framed), moved)
    return [
        Metric(NAME, f"face {height:.0%} of height: found", tally.share, "%", 99.0)
        for height, tally in tallies.items()
    ]


def reframe(
    rng: np.random.Generator, rgb: Bytes, face: Floats, height: float
) -> tuple[Bytes, Floats]:
    """Scale and crop to a 640 canvas in which the face has a given share of the height."""
    scale = height * CANVAS / float(face[3] - face[1])
    centre = (face[:2] + face[2:4]) / 2 * scale
    slack = max(0.0, 1 - height) * CANVAS / 2 * 0.8
    place = CANVAS / 2 + rng.uniform(-1, 1, 2) * slack
    matrix = np.array([[scale, 0, place[0] - centre[0]], [0, scale, place[1] - centre[1]]])
    source = rgb
    while scale < 0.5:
        source = np.asarray(cv2.resize(source, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        scale *= 2
    shrunk = matrix.copy()
    shrunk[:, :2] *= rgb.shape[0] / source.shape[0]
    canvas = cv2.warpAffine(source, shrunk, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR)
    moved = face.copy()
    moved[:14] = (face[:14].reshape(7, 2) @ matrix[:, :2].T + matrix[:, 2]).reshape(-1)
    return np.asarray(canvas, np.uint8), moved


def faceless(data: Path) -> Iterator[tuple[str, Bytes]]:
    """Yield photos without people: Kodak and wallpapers that no training saw, each once."""
    for path, rgb in photos(read_source(data, KODAK, test=True), 1536):
        if Path(path).stem not in KODAK_WITH_PEOPLE:
            yield path, rgb
    for source in (WALLPAPERS, BUDGIE):
        # The same photo comes in several sizes over a repository's history.
        seen = set(BUDGIE_WITH_PEOPLE)
        for path, rgb in photos(read_source(data, source, test=True), 1536):
            if Path(path).stem not in seen:
                seen.add(Path(path).stem)
                yield path, rgb


def interiors(data: Path) -> Iterator[tuple[str, Bytes]]:
    """Yield photos of rooms and houses that no training saw, every tenth."""
    yield from photos(read_source(data, HOUSES, every=INTERIORS_EVERY), 1536)


def false_faces(
    detector: Detector, without: Iterable[tuple[str, Bytes]]
) -> tuple[int, list[tuple[str, float]]]:
    """Return the number of photos without faces and (photo, score) of what is found, best first."""
    found = []
    count = 0
    for path, rgb in without:
        count += 1
        found += [(path, float(row[14])) for row in detector.detect(rgb, 0.1)]
    return count, sorted(found, key=lambda item: -item[1])


def by_group(detector: Detector, data: Path) -> list[Metric]:
    """UTKFace photos that training left out: faces found by sex, group and age of the file name.

    Names read age_sex_group_date: sex 0 male, 1 female; groups as the set's authors call them.
    """
    tallies: dict[str, list[bool]] = {}
    # Training takes every fourth photo; odd places are never among them.
    for index, (path, rgb) in enumerate(photos(read_source(data, UTKFACE, every=5), 256)):
        parts = Path(path).name.split("_")
        if index % 2 == 0 or len(parts) < 4 or index % 5:
            continue
        age = int(parts[0])
        span = "0-17" if age < 18 else "18-59" if age < 60 else "60 and over"
        names = (
            f"sex {('male', 'female')[int(parts[1]) % 2]}",
            f"group {('White', 'Black', 'Asian', 'Indian', 'other')[int(parts[2]) % 5]}",
            f"age {span}",
        )
        faces = detector.detect(rgb)
        middle = np.array([rgb.shape[1], rgb.shape[0]], np.float32) / 2
        covers = (faces[:, :2] < middle).all(1) & (faces[:, 2:4] > middle).all(1)
        for name in names:
            tallies.setdefault(name, []).append(bool(covers.any()))
    return [
        Metric(NAME, f"UTKFace found, {name} ({len(found)})", 100 * float(np.mean(found)), "%")
        for name, found in sorted(tallies.items())
    ]


def evaluate(data: Path, teachers: Path, repository: Path) -> list[Metric]:
    """Measure the served detector; `data` is described at `snapshot_root`."""
    cv2.setNumThreads(1)
    data = snapshot_root(data)
    detector = Detector.load(repository)
    teacher = YuNet(teachers / "yunet" / "yunet_n_dynamic.onnx")
    false = []
    for name, source in (("photos", faceless(data)), ("interiors", interiors(data))):
        count, found = false_faces(detector, source)
        sure = sum(score >= detector.score_threshold for _, score in found)
        label = f"false faces in 100 {name} ({sure} in {count})"
        false.append(Metric(NAME, label, 100 * sure / count, "faces", 1.0, "lower"))
    return [
        *finding(detector, teacher, data, LANDMARKS_EVERY),
        *sizes(detector, teacher, data),
        *by_group(detector, data),
        *false,
    ]
