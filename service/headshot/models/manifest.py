"""The checkpoint manifest: which public files there are, pinned by size and sha256.

The manifest is data (`checkpoints.yaml` beside this file); this module reads and checks it.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Profile = Literal["studio", "research"]


class Checkpoint(BaseModel):
    """One downloadable file.

    Attributes:
        name: short identifier, unique in the manifest.
        stage: the model of the repository that it feeds.
        path: where it lies below the checkpoint folder (relative, POSIX).
        url: https source.
        origin: the authors' own page, when `url` is a mirror or a re-export.
        size: bytes, or None where the publisher states none (the hash still decides).
        sha256: lower-case hex digest of the content.
        licence: SPDX identifier, or the publisher's own name for it.
        commercial: whether that licence allows commercial use of the weights.
        profile: `studio`, or `research` (non-commercial, opt-in).
        required: whether the profile cannot be built without it.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    stage: str
    path: str
    url: str
    origin: str | None = None
    size: Annotated[int, Field(gt=0)] | None
    sha256: Sha256
    licence: str
    commercial: bool
    profile: Profile
    required: bool

    @model_validator(mode="after")
    def _path_stays_inside(self) -> Self:
        relative = PurePosixPath(self.path)
        if relative.is_absolute() or ".." in relative.parts or not relative.name:
            raise ValueError(f"{self.name}: path must be relative and stay inside the folder")
        if self.commercial and self.profile == "research":
            raise ValueError(f"{self.name}: the research profile is for non-commercial files")
        if not self.commercial and self.profile == "studio":
            raise ValueError(f"{self.name}: the studio profile takes commercial licences only")
        return self


class RestrictedContent(BaseModel):
    """Content that commercial mode refuses wherever it turns up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: Sha256


class Manifest(BaseModel):
    """All checkpoints, and the contents that commercial mode refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    files: tuple[Checkpoint, ...]
    research_only: tuple[RestrictedContent, ...]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for field in ("name", "path", "sha256"):
            values = [getattr(file, field) for file in self.files]
            if len(set(values)) != len(values):
                raise ValueError(f"two checkpoints share one {field}")
        restricted = {item.sha256 for item in self.research_only}
        for file in self.files:
            if file.commercial == (file.sha256 in restricted):
                raise ValueError(f"{file.name}: commercial flag and research_only list disagree")
        return self

    def get(self, name: str) -> Checkpoint:
        """Return the checkpoint of that name.

        Raises:
            KeyError: no checkpoint has this name.

        """
        for file in self.files:
            if file.name == name:
                return file
        raise KeyError(name)

    def select(
        self, profile: Profile, *, names: tuple[str, ...] = (), optional: bool = False
    ) -> tuple[Checkpoint, ...]:
        """Choose from a profile: the required files, all with `optional`, or those named."""
        chosen = [file for file in self.files if file.profile == profile]
        if names:
            unknown = sorted(set(names) - {file.name for file in chosen})
            if unknown:
                raise KeyError(", ".join(unknown))
            return tuple(file for file in chosen if file.name in names)
        return tuple(file for file in chosen if file.required or optional)


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and check a manifest.

    Args:
        path: a YAML file, or None for the one that ships with the package.

    Raises:
        pydantic.ValidationError: the file does not follow the schema.

    """
    if path is None:
        text = resources.files("headshot.models").joinpath("checkpoints.yaml").read_text("utf-8")
    else:
        text = path.read_text("utf-8")
    return Manifest.model_validate(yaml.safe_load(text))
