"""Photos with alpha mattes and masks for the matting network, and backgrounds for compositing.

    python -m export_scripts.datasets.mattes --mirror DIR --teachers DIR --out DIR

Three kinds of record: `matte` (alpha, foreground colour and confidence, for compositing),
`mask` (a label of the photo as it is: alpha and confidence), `background` (no person in it).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import scipy.io  # type: ignore[import-untyped]
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.datasets.alpha import alpha_from_mask, alpha_on_backdrop, refine_mask
from export_scripts.datasets.figures import head_of
from export_scripts.datasets.packed import PackWriter, decode_rgb, encode_jpeg, encode_png
from export_scripts.datasets.selfie import SelfieSegmenter
from export_scripts.datasets.snapshots import git_directory, list_blobs, read_blobs
from export_scripts.datasets.sources import (
    BSDS,
    CANADA,
    CCP,
    CELEBA,
    CID22,
    CLIC,
    HOUSES,
    INRIA,
    LONDON,
    OFFICIAL,
    PENN_FUDAN,
    PEOPLE,
    URBAN,
    VIKRAM,
    WALLPAPERS,
    Source,
    read_source,
)
from export_scripts.datasets.yunet import YuNet, is_portrait

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
PARTS = ("backgrounds", "streets", "masks", "people", "figures", "mattes", "wild")
BACKGROUNDS = (WALLPAPERS, BSDS, CID22, CLIC, URBAN, HOUSES)
STREETS = (INRIA,)


def to_byte(values: npt.NDArray[np.floating]) -> Bytes:
    """Quantise 0..1 to uint8 0..255."""
    return np.asarray(np.clip(np.round(values * 255), 0, 255), np.uint8)


def photos(
    mirror: Path, source: Source, longest: int, every: int = 1
) -> Iterator[tuple[str, Bytes]]:
    """Yield (key, RGB) of a source's training photos."""
    for path, data in tqdm(
        read_source(mirror, source, every=every), desc=source.name, mininterval=10
    ):
        rgb = decode_rgb(data, longest)
        if rgb is not None and min(rgb.shape[:2]) >= 96:
            yield f"{source.name}/{Path(path).stem}", rgb


def pixel_masks(mirror: Path) -> dict[str, npt.NDArray[np.bool_]]:
    """Read the person masks of clothing-co-parsing, bool [h,w] by photo number."""
    git_dir = git_directory(mirror, CCP.repository)
    blobs = list_blobs(git_dir, r"^annotations/pixel-level/\d+\.mat$")
    masks = {}
    for path, data in read_blobs(git_dir, blobs.items()):
        labels = scipy.io.loadmat(io.BytesIO(data))["groundtruth"]
        masks[Path(path).stem] = np.asarray(labels > 0)
    return masks


def two_views(segmenter: SelfieSegmenter, rgb: Bytes, face: Floats | None) -> tuple[Floats, Floats]:
    """Return the teacher's mask and where it is sure of it, both float32 [h,w] in 0..1.

    The mask is the mean over the whole photo and, where a face is known, a square around head
    and shoulders; it is sure where the views agree.
    """
    whole = segmenter.mask_both_ways(rgb)
    mean, sure = whole.copy(), np.ones_like(whole)
    if face is None:
        return mean, sure
    height, width = rgb.shape[:2]
    size = face[3] - face[1]
    centre = (face[:2] + face[2:4]) / 2
    x1, x2 = (int(np.clip(centre[0] + s * 2.0 * size, 0, width)) for s in (-1, 1))
    y1, y2 = (int(np.clip(centre[1] + s * size, 0, height)) for s in (-1.6, 2.4))
    if (x2 - x1) * (y2 - y1) > 0.85 * width * height or min(x2 - x1, y2 - y1) < 48:
        return mean, sure
    close = segmenter.mask_both_ways(np.ascontiguousarray(rgb[y1:y2, x1:x2]))
    window = np.minimum.outer(np.hanning(y2 - y1 + 2)[1:-1], np.hanning(x2 - x1 + 2)[1:-1])
    weight = np.clip(window * 6, 0, 1).astype(np.float32) * 0.75
    mean[y1:y2, x1:x2] = mean[y1:y2, x1:x2] * (1 - weight) + close * weight
    gap = np.abs(whole[y1:y2, x1:x2] - close) * (weight > 0.2)
    sure[y1:y2, x1:x2] = np.clip(1.5 - 2.5 * gap, 0, 1)
    return mean, sure


def prepare(mirror: Path, teachers: Path, out: Path, parts: list[str]) -> None:
    """Write the packs named in `parts`, some of PARTS."""
    segmenter = SelfieSegmenter(teachers / "selfie_segmentation" / "selfie_segmentation.tflite")
    detector = YuNet(teachers / "yunet" / "yunet_n_dynamic.onnx")
    writers = {
        "backgrounds": partial(write_backgrounds, sources=BACKGROUNDS),
        "streets": partial(write_backgrounds, sources=STREETS),
        "masks": write_ccp,
        "people": write_people,
        "figures": write_figures,
        "mattes": write_mattes,
        "wild": write_wild,
    }
    for name in parts:
        with PackWriter(out / name) as pack:
            writers[name](mirror, segmenter, detector, pack)


def write_backgrounds(
    mirror: Path,
    segmenter: SelfieSegmenter,
    detector: YuNet,
    pack: PackWriter,
    *,
    sources: tuple[Source, ...],
) -> None:
    """Write photos in which neither teacher sees a person."""
    for source in sources:
        for key, rgb in photos(mirror, source, 1024):
            empty = (segmenter.mask_both_ways(rgb) > 0.5).mean() < 0.01
            if empty and largest_face(detector, rgb) is None:
                pack.add(key, {"image": encode_jpeg(rgb)})


def write_mattes(
    mirror: Path, segmenter: SelfieSegmenter, detector: YuNet, pack: PackWriter
) -> None:
    """Write portraits with derived alpha; every second of the official ones."""
    for source in (LONDON, CANADA):
        for key, rgb in photos(mirror, source, 704):
            write_matte(pack, key, rgb, segmenter.mask_both_ways(rgb), plain=True)
    for source in OFFICIAL:
        for key, rgb in photos(mirror, source, 576, every=2):
            face = largest_face(detector, rgb)
            mask, sure = two_views(segmenter, rgb, face)
            if face is not None and sure.mean() > 0.97:
                write_matte(pack, key, rgb, mask, plain=False, face=face)


def write_wild(mirror: Path, segmenter: SelfieSegmenter, detector: YuNet, pack: PackWriter) -> None:
    """Write photos in the wild with the teacher's mask where its two views agree."""
    for key, rgb in photos(mirror, CELEBA, 512, every=2):
        face = largest_face(detector, rgb)
        mask, sure = two_views(segmenter, rgb, face)
        unsure = ((mask > 0.15) & (mask < 0.85)).mean()
        if face is None or sure.mean() < 0.93 or unsure > 0.08 or not 0.08 < mask.mean() < 0.97:
            continue
        confidence = sure * np.clip(np.abs(mask - 0.5) * 3, 0.25, 1)
        blobs = {
            "image": encode_jpeg(rgb),
            "alpha": encode_png(to_byte(refine_mask(rgb, mask))),
            "confidence": encode_jpeg_grey(confidence),
        }
        pack.add(key, blobs, face=[float(v) for v in face[:4]])


def write_ccp(mirror: Path, segmenter: SelfieSegmenter, detector: YuNet, pack: PackWriter) -> None:
    """Write clothing-co-parsing: its own masks where it has them, else the teacher's."""
    masks = pixel_masks(mirror)
    for key, rgb in photos(mirror, CCP, 1024):
        labels = masks.get(key.split("/")[1])
        face = largest_face(detector, rgb)
        if labels is not None and labels.shape == rgb.shape[:2]:
            alpha, confidence = along_edges(rgb, labels.astype(np.float32))
        else:
            mask, sure = two_views(segmenter, rgb, face)
            if face is None or sure.mean() < 0.95:
                continue
            alpha = refine_mask(rgb, mask)
            confidence = sure * np.clip(np.abs(mask - 0.5) * 3, 0.25, 1)
        blobs = {
            "image": encode_jpeg(rgb),
            "alpha": encode_png(to_byte(alpha)),
            "confidence": encode_jpeg_grey(confidence),
        }
        box = None if face is None else [float(v) for v in face[:4]]
        pack.add(key, blobs, face=box, labelled=labels is not None)


def write_people(mirror: Path, _: SelfieSegmenter, detector: YuNet, pack: PackWriter) -> None:
    """Write portraits and figures in the wild with masks drawn by hand.

    Of the Vikram set those that are not for testing: several people, small or hidden faces.
    """
    for source, folder in ((PEOPLE, r"^data/(train|valid)_mask/.*"), (VIKRAM, r"^Ground_Truth/.*")):
        git_dir = git_directory(mirror, source.repository)
        blobs = list_blobs(git_dir, folder)
        masks = {Path(path).stem: data for path, data in read_blobs(git_dir, blobs.items())}
        for key, rgb in photos(mirror, source, 1024):
            data = np.frombuffer(masks.get(key.split("/")[1], b"\0"), np.uint8)
            mask = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
            if mask is None or (source is VIKRAM and is_portrait(detector, rgb)):
                continue
            if abs(mask.shape[0] / mask.shape[1] - rgb.shape[0] / rgb.shape[1]) > 0.02:
                continue
            known = cv2.resize(mask, rgb.shape[1::-1], interpolation=cv2.INTER_AREA) > 127
            alpha, confidence = along_edges(rgb, known.astype(np.float32))
            face = largest_face(detector, rgb)
            blobs_ = {
                "image": encode_jpeg(rgb),
                "alpha": encode_png(to_byte(alpha)),
                "confidence": encode_jpeg_grey(confidence),
            }
            pack.add(key, blobs_, face=None if face is None else [float(v) for v in face[:4]])


def along_edges(rgb: Bytes, known: Floats) -> tuple[Floats, Floats]:
    """Return a hard mask drawn along the photo's edges, and less trust where that changed it."""
    alpha = refine_mask(rgb, known)
    return alpha, np.where(np.abs(alpha - known) < 0.5, 1.0, 0.5).astype(np.float32)


def write_figures(mirror: Path, segmenter: SelfieSegmenter, _: YuNet, pack: PackWriter) -> None:
    """Write Penn-Fudan: whole figures on streets and paths, with its own masks.

    People cut by the photo's edge or half hidden have no mask there: what the teacher takes for
    one of them does not count.
    """
    git_dir = git_directory(mirror, PENN_FUDAN.repository)
    blobs = list_blobs(git_dir, r"^data/PennFudanPed/PedMasks/.*_mask\.png$")
    stored = read_blobs(git_dir, blobs.items())
    masks = {Path(path).stem.removesuffix("_mask"): data for path, data in stored}
    for key, rgb in photos(mirror, PENN_FUDAN, 1024):
        data = masks.get(key.split("/")[1])
        if data is None:
            continue
        numbers = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if numbers is None or numbers.shape != rgb.shape[:2]:
            continue
        known = (numbers > 0).astype(np.float32)
        alpha, sure = along_edges(rgb, known)
        others = (segmenter.mask_both_ways(rgb) > 0.3) & (cv2.dilate(known, np.ones((9, 9))) == 0)
        blobs_ = {
            "image": encode_jpeg(rgb),
            "alpha": encode_png(to_byte(alpha)),
            "confidence": encode_jpeg_grey(np.where(others, 0.0, sure)),
        }
        pack.add(key, blobs_, face=head_of(np.asarray(numbers, np.uint8)))


def write_matte(
    pack: PackWriter,
    key: str,
    rgb: Bytes,
    mask: Floats,
    *,
    plain: bool,
    face: Floats | None = None,
) -> None:
    """Derive and write one matte."""
    derive = alpha_on_backdrop if plain else alpha_from_mask
    alpha, colour, confidence = derive(rgb, mask)
    blobs = {
        "image": encode_jpeg(rgb, 95),
        "colour": encode_jpeg(to_byte(colour / 255), 95),
        "alpha": encode_png(to_byte(alpha)),
        "confidence": encode_jpeg_grey(confidence),
    }
    box = None if face is None else [float(v) for v in face[:4]]
    pack.add(key, blobs, face=box, plain=plain, agreement=round(float(confidence.mean()), 4))


def largest_face(detector: YuNet, rgb: Bytes) -> Floats | None:
    """Return the largest sure face as float32 [16], or None."""
    rows = detector.detect_at_scales(rgb, (160, 320))
    rows = rows[rows[:, 14] > 0.6]
    return rows[int(np.argmax(rows[:, 3] - rows[:, 1]))] if len(rows) else None


def encode_jpeg_grey(values: npt.NDArray[np.floating]) -> bytes:
    """Encode 0..1 as a grey JPEG."""
    return bytes(cv2.imencode(".jpg", to_byte(values), [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="fetched repositories")
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    prepare(arguments.mirror, arguments.teachers, arguments.out, arguments.parts)


if __name__ == "__main__":
    main()
