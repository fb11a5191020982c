"""Licence policy: commercial mode refuses research-only weights by content, not by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from headshot.models.manifest import Checkpoint, Manifest


class LicenceMode(StrEnum):
    """What the weights may be used for. `RESEARCH` must be asked for; it is named everywhere."""

    COMMERCIAL = "commercial"
    RESEARCH = "research"


class LicenceError(Exception):
    """A file that the licence mode does not allow."""


def check_checkpoint(checkpoint: Checkpoint, mode: LicenceMode) -> None:
    """Refuse a checkpoint whose licence the mode does not allow.

    Raises:
        LicenceError: a non-commercial file in commercial mode.

    """
    if mode is LicenceMode.COMMERCIAL and not checkpoint.commercial:
        raise LicenceError(
            f"{checkpoint.name} is licensed {checkpoint.licence}: not for commercial use. "
            "Ask for it with --research if your use is research."
        )


def check_content(sha256: str, mode: LicenceMode, manifest: Manifest) -> None:
    """Refuse content by its hash, whatever the file is called.

    Args:
        sha256: lower-case hex digest of the file.
        mode: the licence mode in force.
        manifest: the manifest with the list of restricted contents.

    Raises:
        LicenceError: research-only content in commercial mode.

    """
    if mode is LicenceMode.RESEARCH:
        return
    for item in manifest.research_only:
        if item.sha256 == sha256:
            raise LicenceError(
                f"this file is {item.name} (sha256 {sha256[:12]}...), licensed for "
                "non-commercial research only; commercial mode does not use it"
            )


def mode_of_sources(hashes: Iterable[str], manifest: Manifest) -> LicenceMode:
    """Find the licence mode that a model built from these source files must be served under.

    Args:
        hashes: sha256 of every checkpoint that went into the model (its `source_sha256`
            parameter, comma-separated in config.pbtxt).
        manifest: the manifest with the list of restricted contents.

    Returns:
        RESEARCH as soon as one source is research-only, COMMERCIAL otherwise.

    """
    restricted = {item.sha256 for item in manifest.research_only}
    return LicenceMode.RESEARCH if restricted.intersection(hashes) else LicenceMode.COMMERCIAL


def check_served(
    parameters: Mapping[str, Mapping[str, str]], mode: LicenceMode, manifest: Manifest
) -> LicenceMode:
    """Refuse to serve models that the licence mode does not allow.

    Args:
        parameters: the `parameters` of every served model, by model name; `source_sha256` there
            lists the checkpoints that a model was made from, comma-separated. Models without it
            are this project's own. `licence_mode` "research" says so of sources whose hash is not
            known here.
        mode: the licence mode in force.
        manifest: the manifest with the list of restricted contents.

    Returns:
        RESEARCH when a served model has a research-only source, COMMERCIAL otherwise.

    Raises:
        LicenceError: such a model in commercial mode.

    """
    found = LicenceMode.COMMERCIAL
    for model, values in sorted(parameters.items()):
        hashes = [text for text in values.get("source_sha256", "").split(",") if text]
        told = values.get("licence_mode") == LicenceMode.RESEARCH
        if told or mode_of_sources(hashes, manifest) is LicenceMode.RESEARCH:
            if mode is LicenceMode.COMMERCIAL:
                raise LicenceError(
                    f"{model} was made from weights licensed for non-commercial research only; "
                    "serve it with research_mode if your use is research"
                )
            found = LicenceMode.RESEARCH
    return found
