"""Aligned face crops for the identity encoder, from clones of public repositories.

    python -m export_scripts.datasets.prepare_faces --repositories DIR --teachers DIR --out DIR

``--repositories`` holds one folder ``<owner>+<name>/repo`` (a bare or ordinary git clone) for each
source; ``export_scripts.datasets.faces`` describes what is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tqdm import tqdm

from export_scripts.datasets.faces import LFW_PAIRS, FaceRecord, Image, Points, align


class GitTree:
    """Reads files of one commit of a clone without checking it out."""

    def __init__(self, clone: Path, revision: str = "HEAD") -> None:
        git_dir = clone / ".git" if (clone / ".git").exists() else clone
        self._git = ["git", f"--git-dir={git_dir}"]
        self._revision = revision

    def paths(self, prefix: str = "") -> list[str]:
        """Sorted paths of all files below ``prefix``."""
        command = [*self._git, "ls-tree", "-r", "-z", "--name-only", self._revision]
        out = subprocess.run(command, check=True, capture_output=True).stdout
        return sorted(p for p in out.decode().split("\0") if p.startswith(prefix) and p)

    def read(self, paths: list[str]) -> Iterator[tuple[str, bytes]]:
        """Yield ``(path, content)``; a blob that the clone lacks is left out."""
        command = [*self._git, "cat-file", "--batch"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for path in paths:
                process.stdin.write(f"{self._revision}:{path}\n".encode())
                process.stdin.flush()
                header = process.stdout.readline().split()
                if len(header) != 3:
                    continue
                content = process.stdout.read(int(header[2]))
                process.stdout.read(1)
                yield path, content
            process.stdin.close()


class FaceFinder:
    """YuNet (libfacedetection.train) through ONNX Runtime, one thread."""

    def __init__(self, model: Path, longest_side: int = 320) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._outputs = [o.name for o in self._session.get_outputs()]
        self._longest_side = longest_side

    def __call__(self, rgb: Image, threshold: float = 0.4) -> tuple[float, Points] | None:
        """Score and five points (``[5, 2]`` pixels of ``rgb``) of the face that matters.

        That is the one with the highest score times area, counted down with the distance of its
        centre from the photo's centre; ``None`` where nothing passes ``threshold``.
        """
        height, width = rgb.shape[:2]
        # A border of a quarter lets the detector see faces that fill the frame.
        pad = int(0.25 * max(height, width))
        padded = cv2.copyMakeBorder(rgb, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
        scale = self._longest_side / max(padded.shape[:2])
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=interpolation)
        bottom, right = (-small.shape[0]) % 32, (-small.shape[1]) % 32
        small = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        blob = np.ascontiguousarray(small[:, :, ::-1].transpose(2, 0, 1)[None], dtype=np.float32)
        outputs = dict(
            zip(self._outputs, self._session.run(None, {self._input: blob}), strict=True)
        )
        scores, boxes, points = self._decode(outputs, small.shape[1])
        if scores.size == 0 or scores.max() < threshold:
            return None
        centre = np.array([(width / 2 + pad) * scale, (height / 2 + pad) * scale])
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1), axis=1))
        away = np.linalg.norm(middle - centre, axis=1) / (0.25 * self._longest_side)
        weight = np.where(scores >= threshold, scores * size * np.exp(-(away**2)), -1.0)
        best = int(weight.argmax())
        return float(scores[best]), (points[best] / scale - pad).astype(np.float32)

    @staticmethod
    def _decode(
        outputs: dict[str, npt.NDArray[np.float32]], width: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        scores, boxes, points = [], [], []
        for stride in (8, 16, 32):
            cls = outputs[f"cls_{stride}"].reshape(-1)
            obj = outputs[f"obj_{stride}"].reshape(-1)
            box = outputs[f"bbox_{stride}"].reshape(-1, 4)
            kps = outputs[f"kps_{stride}"].reshape(-1, 5, 2)
            columns = width // stride
            index = np.arange(cls.size)
            grid = np.stack([index % columns, index // columns], 1).astype(np.float32)
            centre = (box[:, :2] + grid) * stride
            half = np.exp(box[:, 2:]) * stride / 2
            scores.append(np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1)))
            boxes.append(np.concatenate([centre - half, centre + half], 1))
            points.append((kps + grid[:, None]) * stride)
        return np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)


def _utkface(root: Path) -> Iterator[tuple[FaceRecord, bytes]]:
    tree = GitTree(root / "mattans+AgeProgression" / "repo")
    groups = ("white", "black", "asian", "indian", "other")
    for path, content in tree.read(tree.paths("data/UTKFace/unlabeled/")):
        parts = Path(path).name.split("_")
        age, sex, group = (
            (int(parts[0]), "male" if parts[1] == "0" else "female", groups[int(parts[2])])
            if len(parts) == 4
            else (-1, "", "")
        )
        yield FaceRecord("utkface", path, "", age, sex, group), content


def _celeba_identities(root: Path) -> dict[str, str]:
    tree = GitTree(root / "matush97+faceRecognition" / "repo")
    _, content = next(tree.read(["identity_CelebA.txt"]))
    rows = (line.split() for line in content.decode().splitlines()[1:])
    return {row[0]: f"celeba-{row[1]}" for row in rows if len(row) == 2}


def _celeba_wild(root: Path) -> Iterator[tuple[FaceRecord, bytes]]:
    identities = _celeba_identities(root)
    tree = GitTree(root / "matush97+faceRecognition" / "repo")
    for path, content in tree.read(tree.paths("Celeb/")):
        yield FaceRecord("celeba_wild", path, identities.get(Path(path).name, "")), content


def _celeba_small(root: Path) -> Iterator[tuple[FaceRecord, bytes]]:
    identities = _celeba_identities(root)
    tree = GitTree(root / "karthikSingireddy+cs389-hw4" / "repo")
    for path, content in tree.read(tree.paths("celebA/")):
        yield FaceRecord("celeba_small", path, identities.get(Path(path).name, "")), content


def _webmorph(root: Path) -> Iterator[tuple[FaceRecord, bytes]]:
    tree = GitTree(root / "debruine+webmorphR.stim" / "repo")
    folders = ("inst/neutral_front/", "inst/smiling_front/", "inst/canada/")
    for path, content in tree.read([p for f in folders for p in tree.paths(f)]):
        if path.endswith(".jpg"):
            name = Path(path).stem.split("_")[0]
            kind = "canada" if "canada" in path else "london"
            yield FaceRecord("webmorph", path, f"{kind}-{name}"), content


def _official(root: Path) -> Iterator[tuple[FaceRecord, bytes]]:
    for name in ("us-house", "us-senate", "us-governors"):
        tree = GitTree(root / f"CivilServiceUSA+{name}" / "repo")
        paths = [p for p in tree.paths() if "headshots/1024x1024/" in p and p.endswith(".jpg")]
        for path, content in tree.read(paths):
            yield FaceRecord("official", path, Path(path).stem), content


def _lfw(root: Path) -> Iterator[tuple[FaceRecord, bytes]]:
    tree = GitTree(root / "umass-vis-lfw+umass-vis-lfw.github.io" / "repo")
    for path, content in tree.read(tree.paths("images/")):
        if path.endswith(".jpg"):
            yield FaceRecord("lfw", path, Path(path).parent.name), content


SOURCES: dict[str, Callable[[Path], Iterator[tuple[FaceRecord, bytes]]]] = {
    "celeba_wild": _celeba_wild,
    "utkface": _utkface,
    "lfw": _lfw,
    "celeba_small": _celeba_small,
    "webmorph": _webmorph,
    "official": _official,
}
"""LFW is prepared for the evaluation only; the training script never opens it."""


def prepare(source: str, root: Path, finder: FaceFinder, out: Path) -> int:
    """Detect, align and store all faces of ``source``; returns how many. Written atomically."""
    crops: list[Image] = []
    records: list[FaceRecord] = []
    for record, content in tqdm(SOURCES[source](root), desc=source, mininterval=10):
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            continue
        if max(bgr.shape[:2]) > 1600:
            factor = 1600 / max(bgr.shape[:2])
            bgr = cv2.resize(bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        rgb = np.ascontiguousarray(bgr[:, :, ::-1], dtype=np.uint8)
        found = finder(rgb)
        if found is None:
            continue
        crops.append(align(rgb, found[1]))
        records.append(FaceRecord(**{**asdict(record), "score": round(found[0], 4)}))
    out.mkdir(parents=True, exist_ok=True)
    array, table = out / f"{source}.npy", out / f"{source}.json"
    partial = out / f"{source}.partial.npy"
    np.save(partial, np.stack(crops))
    table.write_text(json.dumps([asdict(r) for r in records]))
    partial.replace(array)
    if source == "lfw":
        tree = GitTree(root / "umass-vis-lfw+umass-vis-lfw.github.io" / "repo")
        (out / LFW_PAIRS).write_bytes(next(tree.read(["pairs.txt"]))[1])
    return len(crops)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repositories", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=sorted(SOURCES), default=list(SOURCES))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    finder = FaceFinder(arguments.teachers / "yunet" / "yunet_n_dynamic.onnx")
    for source in arguments.only:
        print(source, prepare(source, arguments.repositories, finder, arguments.out), flush=True)


if __name__ == "__main__":
    main()
