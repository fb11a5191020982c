"""Verification figures of the identity encoder, and the calibration of its match threshold.

    python -m export_scripts.evaluation.identity_encoder --data DIR --repository DIR --calibrate

``data/identity_encoder/faces`` holds the crops of ``export_scripts.datasets.prepare_faces``. LFW is
only ever tested on; the threshold comes from people of CelebA and UTKFace that training left out
(``export_scripts.datasets.identity_split``).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from export_scripts.datasets.faces import LFW_PAIRS, MARGIN, FaceRecord, load
from export_scripts.datasets.identity_split import SPLIT, held_out, is_calibration
from export_scripts.metrics import Metric
from export_scripts.onnx_tools import compile_openvino

MODEL = "identity_encoder"
FALSE_MATCH_RATE = 1e-3
Floats = npt.NDArray[np.float64]
Embeddings = npt.NDArray[np.float32]
Faces = npt.NDArray[np.uint8]


class Encoder:
    """The served graph on OpenVINO: crops ``[N, 128, 128, 3]`` to unit vectors ``[N, D]``."""

    def __init__(self, path: Path, precision: str = "bf16", threads: int = 1) -> None:
        self._compiled: Any = compile_openvino(path, precision, threads)

    def __call__(self, crops: Faces, batch: int = 32) -> Embeddings:
        """See the class."""
        inner = slice(MARGIN, -MARGIN)
        parts = [
            np.array(self._compiled([np.ascontiguousarray(crops[i : i + batch, inner, inner])])[0])
            for i in range(0, len(crops), batch)
        ]
        return np.concatenate(parts)


def read_pairs(path: Path) -> tuple[list[tuple[str, str, bool]], int]:
    """The pairs of LFW's protocol as (image, image, same person), and the number of folds."""
    lines = path.read_text().splitlines()
    folds = int(lines[0].split()[0])
    pairs = []
    for line in lines[1:]:
        words = line.split()
        if len(words) == 3:
            name, a, b = words
            pairs.append((f"{name}_{int(a):04d}", f"{name}_{int(b):04d}", True))
        elif len(words) == 4:
            one, a, two, b = words
            pairs.append((f"{one}_{int(a):04d}", f"{two}_{int(b):04d}", False))
    return pairs, folds


def protocol_scores(
    embedding: Mapping[str, Embeddings], pairs: Sequence[tuple[str, str, bool]]
) -> Floats:
    """Return the cosine of each pair (image, image, same person).

    A pair with a face that was not found is not left out: it gets the wrong answer's score, -1 for
    one person and 1 for two.
    """
    return np.array(
        [
            float(embedding[a] @ embedding[b])
            if a in embedding and b in embedding
            else (-1.0 if same else 1.0)
            for a, b, same in pairs
        ]
    )


def ten_fold_accuracy(scores: Floats, same: npt.NDArray[np.bool_], folds: int = 10) -> Floats:
    """Accuracy of every fold at the threshold that is best on the other folds.

    Pairs are in the order of the protocol: fold after fold, all of equal size.
    """
    fold = np.arange(len(scores)) // (len(scores) // folds)
    candidates = np.unique(scores)
    # Few hundred thresholds cost nothing in accuracy: 5,400 pairs decide between neighbours.
    candidates = candidates[:: max(1, len(candidates) // 1000)]
    right = (scores[None] >= candidates[:, None]) == same[None]
    result = []
    for i in range(folds):
        best = right[:, fold != i].mean(axis=1).argmax()
        result.append(right[best, fold == i].mean())
    return np.array(result)


def threshold_at(impostor: Floats, rate: float) -> float:
    """The lowest threshold at which at most ``rate`` of the impostor scores match (``>=``)."""
    ordered = np.sort(impostor)[::-1]
    allowed = int(rate * len(ordered))
    return float(np.nextafter(ordered[allowed], np.inf))


def true_accept_rate(genuine: Floats, impostor: Floats, rate: float) -> float:
    """Part of the genuine scores that match at a false accept rate of ``rate``."""
    return float((genuine >= threshold_at(impostor, rate)).mean())


def pair_scores(embeddings: Embeddings, identities: list[str]) -> tuple[Floats, Floats]:
    """Cosines of all pairs of one person, and of all pairs of two people."""
    scores = (embeddings @ embeddings.T).astype(np.float64)
    names = np.array(identities)
    same = names[:, None] == names[None]
    upper = np.triu(np.ones_like(same), 1)
    return scores[upper & same], scores[upper & ~same]


def skin_tone_angle(crop: Faces) -> float:
    """Individual typology angle of the cheeks, degrees, of an aligned crop ``[128, 128, 3]``.

    ITA = atan((L* - 50) / b*) in degrees (Chardon et al. 1991); measured on a photo under unknown
    light, so it sorts photos, not people.
    """
    cheeks = np.concatenate([crop[78:92, 38:54].reshape(-1, 3), crop[78:92, 76:92].reshape(-1, 3)])
    lab = cv2.cvtColor(cheeks[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    lightness, _, yellow = np.median(lab, axis=0)
    return float(np.degrees(np.arctan2(lightness - 50, yellow)))


def _lfw(folder: Path, encoder: Encoder, folds_used: int) -> list[Metric]:
    crops, records = load(folder, "lfw")
    rows = {Path(r.path).stem: i for i, r in enumerate(records)}
    pairs, folds = read_pairs(folder / LFW_PAIRS)
    pairs = pairs[: len(pairs) // folds * folds_used]
    known = [(a, b, s) for a, b, s in pairs if a in rows and b in rows]
    used = sorted({n for a, b, _ in known for n in (a, b)})
    embedding = dict(zip(used, encoder(np.asarray(crops[[rows[n] for n in used]])), strict=True))
    scores = protocol_scores(embedding, pairs)
    same = np.array([s for _, _, s in pairs])
    accuracy = 100 * ten_fold_accuracy(scores, same, folds_used)
    rate = 100 * true_accept_rate(scores[same], scores[~same], FALSE_MATCH_RATE)
    size = len(pairs)
    metrics = [
        Metric(MODEL, f"LFW {size} pairs, {folds_used}-fold accuracy", accuracy.mean(), "%", 98.0),
        Metric(MODEL, "LFW accuracy, standard deviation of the folds", accuracy.std(), "%"),
        Metric(MODEL, "LFW TAR at FAR 1e-3", rate, "%", 90.0),
        Metric(MODEL, "LFW pairs with a face not found", float(size - len(known))),
    ]
    threshold = threshold_at(scores[~same], FALSE_MATCH_RATE)
    angle = {n: skin_tone_angle(np.asarray(crops[rows[n]])) for n in used}
    tone = np.array([np.mean([angle.get(a, 0.0), angle.get(b, 0.0)]) for a, b, _ in pairs])
    for label, low, high in (("> 41", 41, 99), ("10 to 41", 10, 41), ("< 10", -99, 10)):
        chosen = (tone > low) & (tone <= high)
        genuine = scores[chosen & same]
        if len(genuine):
            name = f"LFW TAR, skin tone angle {label} ({len(genuine)} pairs)"
            metrics.append(Metric(MODEL, name, 100 * float((genuine >= threshold).mean()), "%"))
    return metrics


def calibration_embeddings(folder: Path, encoder: Encoder) -> tuple[Embeddings, list[FaceRecord]]:
    """Embeddings of the faces that training left out for this: CelebA people and UTKFace."""
    split = json.loads(SPLIT.read_text())
    embeddings, chosen = [], []
    for source in ("celeba_wild", "celeba_small", "utkface"):
        crops, records = load(folder, source)
        rows = [
            i
            for i, r in enumerate(records)
            if (is_calibration(r) if source.startswith("celeba") else held_out(r, split))
        ]
        embeddings.append(encoder(np.asarray(crops[rows])))
        chosen += [records[i] for i in rows]
    return np.concatenate(embeddings), chosen


def _identity(record: FaceRecord) -> str:
    return record.identity or record.path


def calibrate(folder: Path, encoder: Encoder) -> float:
    """The threshold at a false match rate of 1e-3 on the calibration faces."""
    embeddings, records = calibration_embeddings(folder, encoder)
    _, impostor = pair_scores(embeddings, [_identity(r) for r in records])
    return threshold_at(impostor, FALSE_MATCH_RATE)


def configured_threshold(config: Path) -> float:
    """``match_threshold`` of a config.pbtxt.

    Raises:
        ValueError: the file has none.
    """
    found = re.search(_THRESHOLD, config.read_text())
    if found is None:
        raise ValueError(f"{config} has no match_threshold")
    return float(found[2])


_THRESHOLD = r'(key:\s*"match_threshold"\s*value:?\s*\{\s*string_value:\s*")([0-9.eE+-]+)(")'


def write_threshold(config: Path, threshold: float) -> None:
    """Replace ``match_threshold`` in a config.pbtxt."""
    text, count = re.subn(_THRESHOLD, rf"\g<1>{threshold:.3f}\g<3>", config.read_text())
    if count != 1:
        raise ValueError(f"{config} has no match_threshold")
    config.write_text(text)


def _calibration(folder: Path, encoder: Encoder, threshold: float) -> list[Metric]:
    embeddings, records = calibration_embeddings(folder, encoder)
    wild = [i for i, r in enumerate(records) if r.source == "celeba_wild"]
    genuine, _ = pair_scores(embeddings[wild], [_identity(records[i]) for i in wild])
    _, impostor = pair_scores(embeddings, [_identity(r) for r in records])
    metrics = [
        Metric(MODEL, "match threshold (cosine)", threshold),
        Metric(
            MODEL,
            f"false match rate at the threshold ({len(impostor) / 1e6:.1f}M held-out pairs)",
            float((impostor >= threshold).mean()),
        ),
        Metric(
            MODEL,
            f"held-out CelebA people, matched at the threshold ({len(genuine)} pairs)",
            100 * float((genuine >= threshold).mean()),
            "%",
        ),
    ]
    faces = [i for i, r in enumerate(records) if r.source == "utkface"]
    labels: dict[str, list[int]] = {}
    for i in faces:
        record = records[i]
        band = "0-17" if record.age < 18 else "18-39" if record.age < 40 else "40+"
        for label in (record.group, record.sex, f"age {band}"):
            labels.setdefault(label, []).append(i)
    for label, rows in sorted(labels.items()):
        if len(rows) < 20:
            continue
        _, within = pair_scores(embeddings[rows], [_identity(records[i]) for i in rows])
        name = f"UTKFace held-out, false match rate within {label} ({len(rows)} faces)"
        metrics.append(Metric(MODEL, name, float((within >= threshold).mean())))
    return metrics


def _london(folder: Path, encoder: Encoder, threshold: float) -> list[Metric]:
    split = json.loads(SPLIT.read_text())
    crops, records = load(folder, "webmorph")
    rows = [i for i, r in enumerate(records) if held_out(r, split)]
    embeddings = encoder(np.asarray(crops[rows]))
    genuine, impostor = pair_scores(embeddings, [records[i].identity for i in rows])
    return [
        Metric(
            MODEL,
            f"London held-out, neutral and smiling matched ({len(genuine)} pairs)",
            100 * float((genuine >= threshold).mean()),
            "%",
        ),
        Metric(MODEL, "London held-out, lowest score of one person", float(genuine.min())),
        Metric(MODEL, "London held-out, highest score of two people", float(impostor.max())),
    ]


def evaluate(data: Path, teachers: Path, repository: Path, folds: int = 10) -> list[Metric]:
    """All figures of the served model; ``teachers`` is not needed.

    ``folds`` below ten looks at the first pairs of LFW only, for a quick look during training.
    """
    folder = data / MODEL / "faces"
    encoder = Encoder(repository / MODEL / "1" / "model.onnx")
    metrics = _lfw(folder, encoder, folds)
    if folds == 10:
        threshold = configured_threshold(repository / MODEL / "config.pbtxt")
        metrics += _calibration(folder, encoder, threshold)
        metrics += _london(folder, encoder, threshold)
    return metrics


def main() -> None:
    """Command line of this module: calibrate the threshold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--calibrate", action="store_true", help="write the threshold")
    arguments = parser.parse_args()
    folder = arguments.repository / MODEL
    encoder = Encoder(folder / "1" / "model.onnx")
    threshold = calibrate(arguments.data / MODEL / "faces", encoder)
    print(f"match threshold at a false match rate of {FALSE_MATCH_RATE:g}: {threshold:.3f}")
    if arguments.calibrate:
        write_threshold(folder / "config.pbtxt", threshold)


if __name__ == "__main__":
    main()
