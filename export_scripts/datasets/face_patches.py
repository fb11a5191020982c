"""Square patches of faces, and of what the pyramid network takes for faces, for its refiner.

    python -m export_scripts.datasets.face_patches --data DIR --weights FILE [--graph FILE]

Reads the packs of export_scripts.datasets.detection and writes `patches.npz` beside them:
`faces` uint8 [n,112,112,3] with `points` float32 [n,7,2] (box corners, five landmarks, in patch
sides from the centre), and `others` uint8 [m,112,112,3]. With `--graph`, an exported detector, it
writes `hard.npz` instead: what that detector still takes for faces where the teacher sees none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.datasets.packed import Pack
from export_scripts.datasets.yunet import box_iou
from export_scripts.evaluation.runtime import Graph, letterbox
from export_scripts.networks.face_detector import CANVAS, ServingModule, build
from export_scripts.training.precision import fast_autocast

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
PATCH = 112
AROUND = 2.2  # patch side over the longer side of the face


def cut(rgb: Bytes, centre: npt.NDArray[np.floating], side: float) -> tuple[Bytes, float]:
    """Cut a square, repeating the photo's edge; returns it and its scale to the photo."""
    scale = PATCH / side
    while scale < 0.5:
        rgb = np.asarray(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        centre, side, scale = centre / 2, side / 2, scale * 2
    shift = PATCH / 2 - centre * scale
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    patch = cv2.warpAffine(rgb, matrix, (PATCH, PATCH), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(patch, np.uint8), scale


def face_patches(pack: Pack) -> tuple[list[Bytes], list[Floats]]:
    """Cut every sure face of at least 20 pixels."""
    patches, points = [], []
    for index, record in enumerate(tqdm(pack.records, desc="faces", mininterval=10)):
        rows = np.asarray(record["faces"], np.float32).reshape(-1, 16)
        rows = rows[(rows[:, 15] > 0.5) & (rows[:, 3] - rows[:, 1] >= 20)]
        if not len(rows):
            continue
        rgb = pack.image(index)
        for row in rows[:4]:
            centre = (row[:2] + row[2:4]) / 2
            side = AROUND * float(max(row[2] - row[0], row[3] - row[1]))
            patches.append(cut(rgb, centre, side)[0])
            points.append((row[:14].reshape(7, 2) - centre) / side)
    return patches, points


def other_patches(data: Path, weights: Path, seed: int) -> list[Bytes]:
    """Cut what the pyramid network proposes in photos without faces, and random squares."""
    network = build()
    network.load_state_dict({k: v.float() for k, v in load_file(weights).items()}, strict=False)
    proposer = ServingModule(network.eval())
    rng = np.random.default_rng(seed)
    patches = []
    pack = Pack(data / "negatives")
    for index, record in enumerate(tqdm(pack.records, desc="others", mininterval=10)):
        known = np.asarray(record["faces"], np.float32).reshape(-1, 16)
        photo = pack.image(index)
        for zoom in (1.0, 2.0):
            edge = int(max(photo.shape[:2]) / zoom)
            y = int(rng.integers(max(photo.shape[0] - edge, 0) + 1))
            x = int(rng.integers(max(photo.shape[1] - edge, 0) + 1))
            rgb = np.ascontiguousarray(photo[y : y + edge, x : x + edge])
            canvas, scale = letterbox(rgb, CANVAS)
            image = torch.from_numpy(canvas[None]).permute(0, 3, 1, 2).float() / 127.5 - 1
            with torch.inference_mode(), fast_autocast():
                found = proposer.propose(image.contiguous(memory_format=torch.channels_last))[0]
            boxes = found[0, :14].float().numpy()
            size = np.exp(rng.uniform(np.log(24), np.log(400), (6, 1)))
            corner = rng.uniform(0, CANVAS, (6, 2))
            random = np.concatenate([corner - size / 2, corner + size / 2], 1)
            here = known[:, :4] - np.array([x, y, x, y])
            for box in np.concatenate([boxes, random]).astype(np.float32) / np.float32(scale):
                side = float(max(box[2:] - box[:2]))
                inside = 0 <= (box[0] + box[2]) / 2 < rgb.shape[1]
                inside &= 0 <= (box[1] + box[3]) / 2 < rgb.shape[0]
                taken = len(here) and float(box_iou(box[None], here.astype(np.float32)).max()) > 0
                if inside and side > 8 and not taken:
                    patches.append(cut(rgb, (box[:2] + box[2:]) / 2, side * AROUND)[0])
    return patches


def hard_patches(data: Path, graph: Graph, every: int, seed: int) -> list[Bytes]:
    """Cut the detector's own mistakes in all negatives and in every n-th photo of people."""
    rng = np.random.default_rng(seed)
    patches = []
    jobs = [(Pack(data / "negatives"), 1, (1.3,)), (Pack(data / "faces"), every, (1.0,))]
    for pack, step, zooms in jobs:
        for index in tqdm(range(0, len(pack), step), desc="hard", mininterval=10):
            known = np.asarray(pack.records[index]["faces"], np.float32).reshape(-1, 16)[:, :4]
            photo = pack.image(index)
            for zoom in zooms:
                edge = int(max(photo.shape[:2]) / zoom)
                y = int(rng.integers(max(photo.shape[0] - edge, 0) + 1))
                x = int(rng.integers(max(photo.shape[1] - edge, 0) + 1))
                rgb = np.ascontiguousarray(photo[y : y + edge, x : x + edge])
                canvas, scale = letterbox(rgb, CANVAS)
                boxes, scores, _ = graph.run(canvas[None])
                here = known - np.array([x, y, x, y], np.float32)
                for box in boxes[0][scores[0] > 0.4] / scale:
                    side = float(max(box[2:] - box[:2]))
                    taken = len(here) and float(box_iou(box[None], here).max()) > 0.02
                    if side > 8 and not taken:
                        patches.append(cut(rgb, (box[:2] + box[2:]) / 2, side * AROUND)[0])
    return patches


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="the trained pyramid network")
    parser.add_argument("--graph", type=Path, help="mine the mistakes of this model.onnx")
    parser.add_argument("--every", type=int, default=15, help="share of the photos of people")
    parser.add_argument("--seed", type=int, default=20261121)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if arguments.graph is not None:
        hard = hard_patches(arguments.data, Graph(arguments.graph), arguments.every, arguments.seed)
        np.savez(arguments.data / "hard.npz", others=np.stack(hard))
        print(f"{len(hard)} hard others")
        return
    faces, points = face_patches(Pack(arguments.data / "faces"))
    others = other_patches(arguments.data, arguments.weights, arguments.seed)
    np.savez(
        arguments.data / "patches.npz",
        faces=np.stack(faces),
        points=np.stack(points).astype(np.float32),
        others=np.stack(others),
    )
    print(f"{len(faces)} faces, {len(others)} others")


if __name__ == "__main__":
    main()
