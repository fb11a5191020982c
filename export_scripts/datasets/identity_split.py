"""Which faces the identity encoder may learn from, and which calibrate its threshold.

LFW is the test, so its people must not be learnt. People with a name are left out by name; the
nameless sets (UTKFace, CelebA) by look: the teacher compares every face with every LFW face and
``exclude`` writes the rows that resemble one. A tenth of the CelebA identities are kept out of
training to calibrate the threshold, and the project's own test split stays out as well.

    python -m export_scripts.datasets.identity_split --data DIR --teachers DIR
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export_scripts.datasets.faces import MARGIN, FaceRecord, load
from export_scripts.training.ncnn_teacher import Teacher

SPLIT = Path(__file__).parent.parent / "splits" / "test.json"
TRAINING_SOURCES = ("celeba_wild", "utkface", "celeba_small", "webmorph", "official")
WEIGHT = {"celeba_wild": 2}
"""How often a source's faces are drawn; one where it is not listed."""
EXCLUDED = "excluded.json"
LOOKALIKE = 0.50
"""Teacher cosine above which a nameless face counts as somebody of LFW."""


def held_out(record: FaceRecord, split: dict[str, list[str]]) -> bool:
    """Whether the face belongs to the test split or to the calibration identities."""
    if record.source in ("celeba_wild", "celeba_small"):
        return is_calibration(record)
    if record.source == "utkface":
        # One in fifty for the figures by age, sex and group.
        return zlib.crc32(Path(record.path).name.encode()) % 50 == 0
    if record.source == "webmorph":
        return record.identity.removeprefix("london-").split("-")[0] in split["london"]
    return record.source == "lfw" or record.identity in split["official_portraits"]


def is_calibration(record: FaceRecord) -> bool:
    """A tenth of the CelebA identities, chosen by a checksum of the identity."""
    return bool(record.identity) and zlib.crc32(record.identity.encode()) % 10 == 0


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[^a-z]+", " ", name.lower()).split())


def exclude(data: Path, teacher: Teacher) -> dict[str, list[int]]:
    """Rows of every source that show, by name or look, somebody of LFW; written to ``data``."""
    lfw_crops, lfw_records = load(data, "lfw")
    lfw = embed(teacher, lfw_crops)
    names = {_plain(r.identity) for r in lfw_records}
    excluded: dict[str, list[int]] = {}
    for source in TRAINING_SOURCES:
        if not (data / f"{source}.npy").exists():
            continue
        crops, records = load(data, source)
        nearest = (embed(teacher, crops) @ lfw.T).max(axis=1)
        np.save(data / f"{source}.nearest.npy", nearest)
        by_look = nearest > LOOKALIKE
        by_name = np.array([_plain(r.identity) in names for r in records])
        rows = by_look | by_name
        if source.startswith("celeba"):
            # One match takes the whole person out.
            people = {records[i].identity for i in np.flatnonzero(rows)}
            rows |= np.array([r.identity in people for r in records])
        excluded[source] = [int(i) for i in np.flatnonzero(rows)]
        print(f"{source}: {len(excluded[source])} of {len(records)} left out", flush=True)
    (data / EXCLUDED).write_text(json.dumps(excluded))
    return excluded


def embed(
    teacher: Teacher, crops: npt.NDArray[np.uint8], batch: int = 64
) -> npt.NDArray[np.float32]:
    """Unit-length teacher embeddings ``[N, 128]`` of crops ``[N, 128, 128, 3]``."""
    inner = slice(MARGIN, -MARGIN)
    parts = []
    for start in range(0, len(crops), batch):
        faces = np.asarray(crops[start : start + batch])[:, inner, inner]
        parts.append(teacher(np.ascontiguousarray(faces.transpose(0, 3, 1, 2)))[-1])
    embeddings = np.concatenate(parts)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = embeddings / lengths
    return unit


def training_faces(data: Path) -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.int64]]:
    """Crops of every source and the index ``[M, 2]`` (source, row) of the faces to learn from.

    Raises:
        FileNotFoundError: ``exclude`` has not been run on ``data``.
    """
    split = json.loads(SPLIT.read_text())
    excluded = json.loads((data / EXCLUDED).read_text())
    crops: list[npt.NDArray[np.uint8]] = []
    index: list[tuple[int, int]] = []
    for source in TRAINING_SOURCES:
        if source not in excluded:
            continue
        array, records = load(data, source)
        left_out = set(excluded[source])
        rows = [i for i, r in enumerate(records) if i not in left_out and not held_out(r, split)]
        index += [(len(crops), i) for i in rows] * WEIGHT.get(source, 1)
        crops.append(array)
        print(f"{source}: {len(rows)} faces to learn from", flush=True)
    return crops, np.array(index, np.int64)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, required=True)
    arguments = parser.parse_args()
    exclude(arguments.data, Teacher(arguments.teachers / "mobilefacenet", precision="bf16"))


if __name__ == "__main__":
    main()
