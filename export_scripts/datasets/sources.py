"""Which photos the detector and the matting network may see, by source, with the test split."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export_scripts.datasets.snapshots import git_directory, list_blobs, read_blobs

SPLIT_FILE = Path(__file__).resolve().parents[1] / "splits" / "test.json"


@dataclass(frozen=True)
class Source:
    """One folder of photos: `repository` is "owner/name", `pattern` a regular expression."""

    name: str
    repository: str
    pattern: str
    history: bool = False


WEBMORPH = "debruine/webmorphR.stim"
LONDON = Source("london", WEBMORPH, r"^inst/(neutral_front|smiling_front)/\d+_0[38]\.jpg$")
CANADA = Source("canada", WEBMORPH, r"^inst/canada/[^.]+\.jpg$")
OFFICIAL = tuple(
    Source(f"official-{body}", f"CivilServiceUSA/us-{body}", rf"^us-{body}/images/headshots/1024x")
    for body in ("house", "senate", "governors")
)
CCP = Source("ccp", "bearpaw/clothing-co-parsing", r"^photos/\d{4}\.jpg$")
CELEBA = Source("celeba", "matush97/faceRecognition", r"^Celeb/.*\.jpg$")
UTKFACE = Source("utkface", "mattans/AgeProgression", r"^data/UTKFace/unlabeled/.*\.jpg$")
WALLPAPERS = Source("wallpapers", "elementary/wallpapers", r"\.(jpe?g|png)$", history=True)
BUDGIE = Source(
    "budgie", "BuddiesOfBudgie/budgie-backgrounds", r"^backgrounds/.*\.jpe?g$", history=True
)
BSDS = Source("bsds", "BIDS/BSDS500", r"^BSDS500/data/images/(train|test)/.*\.jpg$")
CID22 = Source("cid22", "imazen/codec-corpus", r"^CID22/CID22-512/.*\.png$")
CLIC = Source("clic", "imazen/codec-corpus", r"^clic2025/.*\.png$")
KODAK = Source("kodak", "imazen/codec-corpus", r"^kodak/.*\.png$")
URBAN = Source("urban", "majedelhelou/denoising_datasets", r"^CUrban100/.*\.png$")
HOUSES = Source("houses", "emanhamed/Houses-dataset", r"^Houses Dataset/.*\.jpg$")
PENN_FUDAN = Source(
    "penn-fudan", "ell-hosse/TinyDETR-PennFudan", r"^data/PennFudanPed/PNGImages/.*\.png$"
)
PEOPLE = Source("people", "dmitrybeloborodov/HumanSegmentation", r"^data/(train|valid)/\d+\.jpg$")
# Photos with exactly one face, of a tenth of the height or more, are for testing
# (`yunet.is_portrait`).
VIKRAM = Source(
    "vikram",
    "VikramShenoy97/Human-Segmentation-Dataset",
    r"^Training_Images/.*\.(jpg|jpeg|png)$",
)
INRIA = Source("inria", "ruananswer/Articulated_Pose_Estimation_1", r"^dataset/INRIA/.*\.jpg$")
LFW = Source("lfw", "umass-vis-lfw/umass-vis-lfw.github.io", r"^images/[^/]+/.*\.jpg$")

# Wallpapers kept for counting false faces: about three of four, chosen by a hash of the name.
WALLPAPER_TEST_SHARE = 0.75


def load_split() -> dict[str, Any]:
    """Return the test split: lists of ids by source."""
    split: dict[str, Any] = json.loads(SPLIT_FILE.read_text())
    return split


def in_test_split(source: Source, path: str, split: dict[str, Any]) -> bool:
    """Tell whether a photo belongs to the held-out test split."""
    stem = Path(path).stem
    if source is LONDON:
        return stem.split("_")[0] in split["london"]
    if source in OFFICIAL:
        return stem in split["official_portraits"]
    if source is CCP:
        return stem in split["clothing_co_parsing"]
    if source is WALLPAPERS:
        digest = hashlib.sha256(Path(path).name.lower().encode()).digest()
        return digest[0] / 256 < WALLPAPER_TEST_SHARE
    return source in (BUDGIE, KODAK, LFW)


def read_source(
    mirror: Path,
    source: Source,
    *,
    test: bool = False,
    every: int = 1,
    content: bool = True,
) -> Iterator[tuple[str, bytes]]:
    """Yield (path, encoded bytes) of a source's training (or test) photos, every n-th.

    With `content` false the bytes are empty. Photos the snapshot lacks are left out.
    """
    split = load_split()
    git_dir = git_directory(mirror, source.repository)
    blobs = list_blobs(git_dir, source.pattern, history=source.history)
    seen: set[str] = set()
    chosen = []
    for path, blob in blobs.items():
        if (blob in seen and not test) or re.search(r"/\._", path):
            continue
        seen.add(blob)
        if in_test_split(source, path, split) is test:
            chosen.append((path, blob))
    if not content:
        yield from ((path, b"") for path, _ in chosen[::every])
        return
    yield from read_blobs(git_dir, chosen[::every])
