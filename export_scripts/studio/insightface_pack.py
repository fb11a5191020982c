"""InsightFace's packs, for research only, through the `insightface` package.

The package knows where a pack is published, how it is unpacked and which of its files does what.
Its weights are licensed for non-commercial research: nothing here runs unless that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class PackError(Exception):
    """A pack that cannot be had, or that lacks what is needed."""


@dataclass(frozen=True)
class Pack:
    """The two files of a pack that the studio profile has models for."""

    detector: Path
    recogniser: Path


def find_pack(name: str, root: Path = Path("~/.insightface")) -> Pack:
    """Find a pack's detector and recogniser, told apart by the package itself.

    Args:
        name: a pack's name ("buffalo_l"), downloaded by the package where it is not below `root`
            yet, or the path of an unpacked one.
        root: InsightFace's folder.

    Raises:
        PackError: the package is missing, the pack cannot be had, or a file is missing in it.
    """
    try:
        from insightface import model_zoo  # noqa: PLC0415 - research only
        from insightface.utils import storage  # noqa: PLC0415
    except ImportError as error:
        raise PackError(
            "packs are read through the insightface package: pip install --no-deps "
            "--require-hashes -r requirements/research.txt"
        ) from error
    folder = Path(name)
    if not folder.is_dir():
        try:
            folder = Path(storage.ensure_available("models", name, root=str(root.expanduser())))
        except Exception as error:
            raise PackError(f"{name} is neither a folder nor a pack to be had: {error}") from error
    found: dict[str, Path] = {}
    # Some archives hold one more folder of the pack's name.
    for path in sorted(folder.rglob("*.onnx")):
        model = model_zoo.get_model(str(path), providers=["CPUExecutionProvider"])
        if model is not None:
            found.setdefault(model.taskname, path)
    missing = {"detection", "recognition"} - found.keys()
    if missing:
        raise PackError(f"{folder} has no model for {', '.join(sorted(missing))}")
    return Pack(found["detection"], found["recognition"])
