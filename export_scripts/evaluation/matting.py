"""Metrics of the matting network: masks of held-out photos, hair of held-out people."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import scipy.io  # type: ignore[import-untyped]
from headshot.imaging import geometry
from headshot.imaging.framing import FramingSpec, PortraitFrame, plan_portrait
from headshot.imaging.matte import clean, refine_alpha
from headshot.imaging.subject import second_opinion, settle

from export_scripts.datasets.alpha import alpha_on_backdrop
from export_scripts.datasets.packed import decode_rgb
from export_scripts.datasets.selfie import SelfieSegmenter
from export_scripts.datasets.snapshots import git_directory, list_blobs, read_blobs, snapshot_root
from export_scripts.datasets.sources import CCP, KODAK, LONDON, VIKRAM, WALLPAPERS, read_source
from export_scripts.datasets.yunet import YuNet, is_portrait
from export_scripts.evaluation.face_detector import main_face
from export_scripts.evaluation.runtime import Bytes, Graph
from export_scripts.metrics import Metric

NAME = "matting"
CANVAS = 512
Floats = npt.NDArray[np.float32]
Matte = Callable[[Bytes], Floats]
Example = tuple[str, Bytes, Floats]


def served_matte(graph: Graph) -> Matte:
    """Alpha float32 [h,w] in 0..1 of a photo, squashed to the canvas as the teacher does it."""

    def matte(rgb: Bytes) -> Floats:
        shrink = max(rgb.shape[:2]) > CANVAS
        method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        canvas = cv2.resize(rgb, (CANVAS, CANVAS), interpolation=method)
        alpha = graph.run(np.asarray(canvas, np.uint8)[None])[0][0, :, :, 0]
        size = (rgb.shape[1], rgb.shape[0])
        resized = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32) / np.float32(255)

    return matte


def person_iou(alpha: Floats, truth: Floats) -> float:
    """IoU of the person at a threshold of one half (the mean with the background is higher)."""
    first, second = alpha > 0.5, truth > 0.5
    return float((first & second).sum() / max((first | second).sum(), 1))


def gradient_error(alpha: Floats, truth: Floats) -> float:
    """Sum of squared differences of gradient magnitudes (sigma 1.4), in thousands.

    Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", 2009.
    """
    return float(((_gradient(alpha) - _gradient(truth)) ** 2).sum()) / 1000


def _gradient(values: Floats) -> Floats:
    sigma, reach = 1.4, 5
    x = np.arange(-reach, reach + 1, dtype=np.float32)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    slope = -x * smooth
    scale = np.sqrt((np.outer(smooth, slope) ** 2).sum())
    smooth, slope = smooth / np.sqrt(scale), slope / np.sqrt(scale)
    across = cv2.sepFilter2D(values, cv2.CV_32F, slope, smooth)
    down = cv2.sepFilter2D(values, cv2.CV_32F, smooth, slope)
    return np.asarray(np.hypot(across, down), np.float32)


def clothing_examples(data: Path, detector: YuNet) -> Iterator[Example]:
    """Held-out clothing-co-parsing photos, cut to head and upper body (5 face heights square)."""
    git_dir = git_directory(data, CCP.repository)
    blobs = list_blobs(git_dir, r"^annotations/pixel-level/\d+\.mat$")
    held_out = dict(read_source(data, CCP, test=True))
    wanted = {f"annotations/pixel-level/{Path(p).stem}.mat": p for p in held_out}
    for path, content in read_blobs(git_dir, [(p, b) for p, b in blobs.items() if p in wanted]):
        rgb = decode_rgb(held_out[wanted[path]], 2048)
        labels = scipy.io.loadmat(io.BytesIO(content))["groundtruth"] > 0
        if rgb is None or labels.shape != rgb.shape[:2]:
            continue
        rows = detector.detect_at_scales(rgb)
        rows = rows[rows[:, 14] > 0.5]
        if len(rows):
            x1, y1, x2, y2 = rows[int(np.argmax(rows[:, 3] - rows[:, 1]))][:4]
        else:  # looking away: the head is at the top of the person
            ys, xs = np.nonzero(labels)
            y1, y2 = ys.min(), ys.min() + 0.11 * (ys.max() - ys.min())
            x1 = x2 = np.median(xs[ys < y2])
        edge = round(min(5 * (y2 - y1), rgb.shape[1], rgb.shape[0]))
        left = int(np.clip((x1 + x2) / 2 - edge / 2, 0, rgb.shape[1] - edge))
        top = int(np.clip(y1 - 0.18 * edge, 0, rgb.shape[0] - edge))
        window = np.s_[top : top + edge, left : left + edge]
        yield path, np.ascontiguousarray(rgb[window]), labels[window].astype(np.float32)


def single_person_examples(data: Path, detector: YuNet) -> Iterator[Example]:
    """Photos of the Vikram set with exactly one face, at least a tenth of the height."""
    git_dir = git_directory(data, VIKRAM.repository)
    images = list_blobs(git_dir, VIKRAM.pattern)
    truths = list_blobs(git_dir, r"^Ground_Truth/.*\.(jpg|jpeg|png)$")
    masks = {Path(p).stem: content for p, content in read_blobs(git_dir, truths.items())}
    for path, content in read_blobs(git_dir, images.items()):
        rgb = decode_rgb(content, 1024)
        truth = masks.get(Path(path).stem)
        if rgb is None or truth is None:
            continue
        grey = cv2.imdecode(np.frombuffer(truth, np.uint8), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            continue
        size = (rgb.shape[1], rgb.shape[0])
        mask = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        if is_portrait(detector, rgb):
            yield path, rgb, np.asarray(mask, np.float32)


def composites(data: Path, segmenter: SelfieSegmenter) -> Iterator[Example]:
    """Held-out London people with derived alpha over held-out photos, 512x512."""
    rng = np.random.default_rng(20261121)
    scenes = []
    for source in (KODAK, WALLPAPERS):
        for _, content in read_source(data, source, test=True):
            scene = decode_rgb(content, 1024)
            if scene is not None and (segmenter.mask(scene) > 0.5).mean() < 0.01:
                scenes.append(scene)
    for path, content in read_source(data, LONDON, test=True):
        rgb = decode_rgb(content, 704)
        if rgb is None:
            continue
        alpha, colour, _ = alpha_on_backdrop(rgb, segmenter.mask_both_ways(rgb))
        scene = scenes[int(rng.integers(len(scenes)))]
        edge = min(scene.shape[:2])
        y = int(rng.integers(scene.shape[0] - edge + 1))
        x = int(rng.integers(scene.shape[1] - edge + 1))
        behind = cv2.resize(scene[y : y + edge, x : x + edge], (704, 704))
        picture = colour * alpha[..., None] + behind * (1 - alpha[..., None])
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        # Head and shoulders: the middle 80% of the frame.
        window = np.s_[60:624, 70:634]
        size = (CANVAS, CANVAS)
        small = cv2.resize(picture[window], size, interpolation=cv2.INTER_AREA)
        truth = cv2.resize(alpha[window], size, interpolation=cv2.INTER_AREA)
        yield path, np.asarray(small, np.uint8), np.asarray(truth, np.float32)


def evaluate(data: Path, teachers: Path, repository: Path) -> list[Metric]:
    """Measure the served network; `data` is described at `snapshot_root`."""
    cv2.setNumThreads(1)
    data = snapshot_root(data)
    graph = repository / NAME / "1" / "model.onnx"
    return measure(served_matte(Graph(graph)), data, teachers)


def measure(matte: Matte, data: Path, teachers: Path) -> list[Metric]:
    """Measure any matting function beside the teacher."""
    segmenter = SelfieSegmenter(teachers / "selfie_segmentation" / "selfie_segmentation.tflite")
    detector = YuNet(teachers / "yunet" / "yunet_n_dynamic.onnx")
    metrics = []
    sets = (
        ("clothing upper body", clothing_examples(data, detector), 0.95),
        ("Vikram single person", single_person_examples(data, detector), 0.93),
    )
    for name, examples, bar in sets:
        ours, theirs, framed = [], [], []
        for _, rgb, truth in examples:
            ours.append(person_iou(matte(rgb), truth))
            theirs.append(person_iou(segmenter.mask(rgb), truth))
            portrait = portrait_of(rgb, truth, detector)
            if portrait is not None:
                framed.append(person_iou(settled(matte, rgb, portrait), portrait.truth))
        metrics += [
            Metric(NAME, f"{name} mIoU ({len(ours)} photos)", float(np.mean(ours)), "", bar),
            Metric(NAME, f"{name} mIoU of the teacher", float(np.mean(theirs))),
            Metric(NAME, f"{name} mIoU in a headshot ({len(framed)})", float(np.mean(framed))),
        ]
    return [*metrics, *edges(matte, composites(data, segmenter), segmenter)]


class Portrait(NamedTuple):
    """Photo and truth framed as the service frames a headshot.

    uint8 [canvas, canvas, 3], float32 [canvas, canvas], and the plan.
    """

    canvas: Bytes
    truth: Floats
    frame: PortraitFrame


def portrait_of(rgb: Bytes, truth: Floats, detector: YuNet) -> Portrait | None:
    """Return photo and truth framed as the service frames a headshot.

    None where the teacher sees no face, or one from the side.
    """
    face = main_face(detector.detect_at_scales(rgb), rgb.shape)
    if face is None:
        return None
    size = (rgb.shape[1], rgb.shape[0])
    try:
        frame = plan_portrait(face[4:14].reshape(5, 2), face[:4], size, FramingSpec())
    except ValueError:
        return None
    side = frame.canvas
    canvas = geometry.warp(rgb, frame.matrix, (side, side), "replicate")
    wanted = cv2.warpAffine(truth, np.asarray(frame.matrix, np.float64)[:2], (side, side))
    return Portrait(np.asarray(canvas, np.uint8), np.asarray(wanted, np.float32), frame)


def settled(matte: Matte, rgb: Bytes, portrait: Portrait) -> Floats:
    """Return the matte that a headshot is made with, float32 [canvas, canvas] in 0..1.

    Args:
        matte: the network.
        rgb: the whole photo, of which the network is asked, too.
        portrait: the photo framed.
    """
    alpha, whole = (np.rint(matte(x) * 255).astype(np.uint8) for x in (portrait.canvas, rgb))
    frame = portrait.frame
    opinion = second_opinion(whole, rgb.shape[1], frame.matrix, frame.canvas)
    made, _ = settle(alpha, portrait.canvas, frame.landmarks[2], opinion)
    return np.asarray(made, np.float32) / np.float32(255)


def edges(matte: Matte, examples: Iterable[Example], segmenter: SelfieSegmenter) -> list[Metric]:
    """Measure alpha of known composites: of the network, and as the Matte call returns it.

    The call draws the network's matte along the photo's own edges (`imaging.matte.refine_alpha`);
    what is seen in a headshot is that. The teacher's mask is told plain, which the bar counts
    from, and drawn the same way.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for _, rgb, truth in examples:
        ours, theirs = matte(rgb), segmenter.mask(rgb)
        for name, alpha in (
            ("network", ours),
            ("Matte", drawn(ours, rgb)),
            ("teacher", theirs),
            ("teacher, drawn", drawn(theirs, rgb)),
        ):
            error = float(np.abs(alpha - truth).mean())
            found.setdefault(name, []).append((error, gradient_error(alpha, truth)))
    means = {name: np.mean(errors, 0) for name, errors in found.items()}
    count = len(found["network"])
    metrics = []
    for name, (mae, gradient) in means.items():
        bar = 0.012 if name == "Matte" else None
        metrics += [
            Metric(NAME, f"London alpha MAE, {name} ({count} photos)", mae, "", bar, "lower"),
            Metric(NAME, f"London gradient error, {name}", gradient, "x1000", None, "lower"),
        ]
    below = 100 * (1 - means["Matte"][1] / means["teacher"][1])
    return [
        *metrics,
        Metric(NAME, "London gradient error below the teacher's mask", below, "%", 30.0),
    ]


def drawn(alpha: Floats, rgb: Bytes) -> Floats:
    """Return a matte as the Matte call returns it, float32 [h,w] in 0..1."""
    small = np.rint(alpha * 255).astype(np.uint8)
    return np.asarray(refine_alpha(clean(small), rgb), np.float32)
