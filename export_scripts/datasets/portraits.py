"""Portraits for the restoration networks, without the people of the project's test split.

``python -m export_scripts.datasets.portraits --mirror DIR --out DIR [--teachers DIR]`` writes
one ``.npy`` file (uint8 RGB) for each photo into ``DIR/{official,webmorph,celeba,utkface}/`` and,
where the teachers are given, ``DIR/identities.npz``: the recogniser's unit-length embedding of
each photo's largest face, by ``<source>/<stem>``.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export_scripts.datasets.pictures import (
    Blob,
    git_directory,
    list_blobs,
    load_folder,
    write_photos,
)

SPLIT = Path(__file__).resolve().parents[1] / "splits" / "test.json"
PORTRAITS = ("official", "webmorph", "celeba", "utkface")
_CIVIL = ("us-house", "us-senate", "us-governors")


def held_out(split: Path = SPLIT) -> tuple[frozenset[str], frozenset[str]]:
    """(London ids such as "025", stems of official portraits) that no training may see."""
    content = json.loads(split.read_text())
    return frozenset(content["london"]), frozenset(content["official_portraits"])


def _spread(blobs: list[Blob], count: int) -> list[Blob]:
    # Evenly spaced over the sorted list: every person of a set sorted by person stays in.
    if len(blobs) <= count:
        return blobs
    return [blobs[i * len(blobs) // count] for i in range(count)]


def official_blobs(mirror: Path, *, testing: bool) -> list[tuple[Path, Blob]]:
    """1024 px portraits of the history: those of the test split, or all the others."""
    _, names = held_out()
    found = []
    for repository in _CIVIL:
        git = git_directory(mirror, f"CivilServiceUSA/{repository}")
        for blob in list_blobs(git, r"headshots/1024x1024/.*\.jpg$"):
            if (Path(blob.path).stem in names) == testing:
                found.append((git, blob))
    return found


def london_blobs(mirror: Path, *, testing: bool) -> list[tuple[Path, Blob]]:
    """London neutral and smiling photos of the test split, or the others and the Canada set."""
    people, _ = held_out()
    git = git_directory(mirror, "debruine/webmorphR.stim")
    found = []
    for blob in list_blobs(git, r"inst/(neutral_front|smiling_front|canada)/.*\.jpg$"):
        person = re.match(r"\d+", Path(blob.path).stem)
        is_test = "/canada/" not in blob.path and person is not None and person.group() in people
        if is_test == testing:
            found.append((git, blob))
    return found


def prepare(mirror: Path, out: Path, *, celeba: int = 1500, utkface: int = 400) -> dict[str, int]:
    """Writes every training source below ``out``; returns the number of photos for each."""
    counts = dict.fromkeys(PORTRAITS, 0)
    for git in {git for git, _ in official_blobs(mirror, testing=False)}:
        blobs = [b for g, b in official_blobs(mirror, testing=False) if g == git]
        counts["official"] += write_photos(git, blobs, out / "official", longest=1024, smallest=640)
    webmorph = london_blobs(mirror, testing=False)
    counts["webmorph"] = write_photos(
        webmorph[0][0], [b for _, b in webmorph], out / "webmorph", longest=1350
    )
    wild = git_directory(mirror, "matush97/faceRecognition")
    blobs = _spread(list_blobs(wild, r"^Celeb/.*\.jpg$"), celeba)
    counts["celeba"] = write_photos(wild, blobs, out / "celeba", longest=900, smallest=320)
    utk = git_directory(mirror, "mattans/AgeProgression")
    blobs = _spread(list_blobs(utk, r"^data/UTKFace/unlabeled/.*\.jpg$"), utkface)
    counts["utkface"] = write_photos(utk, blobs, out / "utkface", longest=400)
    return counts


def embed(out: Path, teachers: Path) -> int:
    """Writes ``identities.npz``; returns how many photos have an embedding."""
    from export_scripts.evaluation.restoration import FaceTeacher  # noqa: PLC0415  (heavy)

    teacher = FaceTeacher(teachers)
    identities = {}
    for source in PORTRAITS:
        for stem, picture in tqdm(load_folder(out / source), desc=f"embed {source}"):
            embedding = teacher.embedding(np.asarray(picture))
            if embedding is not None:
                identities[f"{source}/{stem}"] = embedding.astype(np.float32)
    np.savez(out / "identities.npz", allow_pickle=False, **identities)
    return len(identities)


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="folder of git snapshots")
    parser.add_argument("--out", type=Path, required=True, help="cache folder")
    parser.add_argument("--teachers", type=Path, help="folder of the teacher networks")
    arguments = parser.parse_args()
    for source, count in prepare(arguments.mirror, arguments.out).items():
        print(f"{source}: {count} photos")
    if arguments.teachers is not None:
        print(f"identities: {embed(arguments.out, arguments.teachers)}")


if __name__ == "__main__":
    main()
