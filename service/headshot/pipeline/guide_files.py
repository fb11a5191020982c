"""The files of style guides: where they lie, how they are read, and what every reader needs.

The service reads whole guides (`headshot.pipeline.styles`). The studio exporter, whose environment
has no imaging libraries, reads identity and texts.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from headshot.errors import StyleError

BUILTIN = Path(__file__).resolve().parent.parent / "styles"
_MAX_FILE_BYTES = 64 * 1024


class StudioGuide(BaseModel):
    """Texts for the studio profile's diffusion model; the compact profile has no use for them.

    Attributes:
        prompt: encoded at export as the style's row of the `style_prompts` model.
        negative_prompt: for a denoiser that runs classifier-free guidance; the exported few-step
            denoiser runs none, so that nothing reads it today.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[str, Field(min_length=8, max_length=1000)]
    negative_prompt: Annotated[str, Field(max_length=1000)] = ""


class GuideHead(BaseModel):
    """What a guide is called, and its texts; the rest of the file is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,47}$")]
    # No leading zeros: 1.01 and 1.1 would be two versions of which neither is newer.
    version: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})$")]
    studio: StudioGuide

    @field_validator("version", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        # YAML reads 1.10 as the number 1.1: another version.
        if isinstance(value, float | int):
            raise ValueError(f'write the version in quotes: "{value}"')
        return value

    @property
    def order(self) -> tuple[int, ...]:
        """The version as numbers: 1.10 is newer than 1.9."""
        return tuple(int(part) for part in self.version.split("."))


GuideT = TypeVar("GuideT", bound=GuideHead)


def load_guides(kind: type[GuideT], extra_dir: Path | None = None) -> tuple[GuideT, ...]:
    """Load the built-in guides and an organisation's own, sorted by id and version.

    Args:
        kind: how much of each guide to read.
        extra_dir: folder of further *.yaml guides, or None.

    Raises:
        StyleError: a guide is malformed, or one id and version occurs twice.
    """
    folders = [BUILTIN] if extra_dir is None else [BUILTIN, extra_dir]
    found: dict[tuple[str, str], str] = {}
    guides = []
    for folder in folders:
        if not folder.is_dir():
            raise StyleError(f"the style folder {folder.name!r} does not exist")
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise StyleError(f"{path.name}: a style guide is UTF-8 text") from None
            guide = parse_guide(kind, text, path.name)
            key = (guide.id, guide.version)
            if key in found:
                raise StyleError(
                    f"{path.name}: style {guide.id} {guide.version} is also in {found[key]}; "
                    "a change needs a new version"
                )
            found[key] = path.name
            guides.append(guide)
    return tuple(sorted(guides, key=lambda guide: (guide.id, guide.order)))


def parse_guide(kind: type[GuideT], text: str, name: str) -> GuideT:
    """Return the guide of a YAML text.

    Args:
        kind: how much of it to read.
        text: the guide.
        name: of its file, for messages.

    Raises:
        StyleError: every mistake, each with its path: "x.yaml: framing.eye_line: ...".
    """
    if len(text.encode()) > _MAX_FILE_BYTES:
        raise StyleError(f"{name}: a style guide has at most {_MAX_FILE_BYTES} bytes")
    try:
        data: Any = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise StyleError(f"{name}{where}: {problem}") from None
    if not isinstance(data, dict):
        raise StyleError(f"{name}: a style guide is a mapping of keys")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise StyleError("; ".join(_messages(name, error))) from None


def _messages(name: str, error: ValidationError) -> list[str]:
    out = []
    found = error.errors(include_url=False, include_context=False)
    deeper = {item["loc"][:k] for item in found for k in range(1, len(item["loc"]))}
    for item in found:
        if item["type"] == "too_short" and item["loc"] in deeper:
            continue  # its elements were bad, not missing
        path = ".".join(str(part) for part in item["loc"]) or "the guide"
        text = item["msg"].removeprefix("Value error, ")
        text = "no such key" if item["type"] == "extra_forbidden" else text
        given = item.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        out.append(f"{name}: {path}: {text}{shown}")
    return out


class _StrictLoader(yaml.SafeLoader):
    """YAML where a key that occurs twice is a mistake, not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is plain text, no list or mapping", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} occurs twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
