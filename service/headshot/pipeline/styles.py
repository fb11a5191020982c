"""Style guides: versioned YAML that says what an organisation's headshots look like.

A style is never changed in place: a change gets a new version beside the old one, so that a new
hire next year can have the look of this year's team. Every mistake in a guide is told at load with
its file and path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headshot.errors import HeadshotError, StyleError
from headshot.imaging.background import AUTO_OPTIONS, BackgroundSpec, options_of, rgb_of
from headshot.imaging.encode import EncodeSpec
from headshot.imaging.framing import FramingSpec
from headshot.imaging.quality import DEFAULT_BOUNDS, Bounds
from headshot.imaging.renditions import DEFAULT_TEMPLATE, RenditionSpec
from headshot.imaging.retouch import RetouchLevel
from headshot.imaging.tone import ToneSpec
from headshot.pipeline.guide_files import GuideHead, load_guides, parse_guide

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Guide(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class FramingGuide(_Guide):
    """See `headshot.imaging.framing.FramingSpec`."""

    eye_line: Annotated[float, Field(ge=0.28, le=0.45)] = FramingSpec.eye_line
    head_height: Annotated[float, Field(ge=0.3, le=0.7)] = FramingSpec.head_height
    top_margin: Annotated[float, Field(ge=0.0, le=0.2)] = FramingSpec.top_margin
    max_roll: Annotated[float, Field(ge=0, le=30)] = FramingSpec.max_roll
    circle_margin: Annotated[float, Field(ge=0, le=0.1)] = FramingSpec.circle_margin


class BackgroundGuide(_Guide):
    """What may stand behind the person.

    Attributes:
        default: the option taken where the caller names none.
        options: "auto", "blur", a colour (name or #RRGGBB) or "gradient:COLOUR".
        auto_tones: colours that "auto" chooses from by the face.
        allow_other: whether a caller may ask for a background that is not among the options.
    """

    default: str = "auto"
    options: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] = ("auto",)
    auto_tones: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)] = AUTO_OPTIONS
    allow_other: bool = True

    @field_validator("options")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _background_of(name, ())
        return names

    @field_validator("auto_tones")
    @classmethod
    def _colours(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return options_of(names)

    @model_validator(mode="after")
    def _default_is_an_option(self) -> BackgroundGuide:
        if self.default not in self.options:
            raise ValueError(f"default {self.default!r} is not among the options")
        return self


class ToneGuide(_Guide):
    """See `headshot.imaging.tone.ToneSpec`."""

    white_level: Annotated[float, Field(ge=180, le=250)] = ToneSpec.white_level
    max_stops: Annotated[float, Field(ge=0, le=1.5)] = ToneSpec.max_stops
    white_balance: Fraction = ToneSpec.white_balance
    temperature: Annotated[float, Field(ge=5000, le=8000)] = ToneSpec.temperature
    contrast: Annotated[float, Field(ge=30, le=85)] = ToneSpec.contrast
    max_contrast: Annotated[float, Field(ge=0, le=0.3)] = ToneSpec.max_contrast
    max_delta_ita: Annotated[float, Field(gt=0, le=3)] = ToneSpec.max_delta_ita
    max_delta_ita_poor_light: Annotated[float, Field(gt=0, le=8)] = (
        ToneSpec.max_delta_ita_poor_light
    )


class RenditionGuide(_Guide):
    """One file that the style delivers; see `headshot.imaging.renditions.RenditionSpec`."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    width: Annotated[int, Field(ge=32, le=4096)]
    height: Annotated[int, Field(ge=32, le=4096)]
    dpi: Annotated[int, Field(ge=1, le=1200)] = 72
    format: Literal["jpeg", "png", "webp", "avif", "tiff"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 92
    progressive: bool = False
    transparent: bool = False
    file_name: str = DEFAULT_TEMPLATE

    @model_validator(mode="after")
    def _can_be_made(self) -> RenditionGuide:
        try:
            self.spec()
        except HeadshotError as error:
            raise ValueError(error.message) from None
        return self

    def spec(self) -> RenditionSpec:
        """Return what the renditions module makes it from."""
        return RenditionSpec(
            name=self.name,
            width=self.width,
            height=self.height,
            dpi=self.dpi,
            encode=EncodeSpec(
                format=self.format, quality=self.quality, progressive=self.progressive
            ),
            transparent=self.transparent,
            file_name=self.file_name,
        )


class BoundsGuide(_Guide):
    """The values of one measure that pass; a missing end is open."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> BoundsGuide:
        Bounds(self.low, self.high)
        return self


class Style(GuideHead):
    """One version of one style guide."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    description: Annotated[str, Field(min_length=1, max_length=400)]
    framing: FramingGuide = FramingGuide()
    background: BackgroundGuide
    tone: ToneGuide = ToneGuide()
    retouch: RetouchLevel = RetouchLevel.LIGHT
    light_wrap: Annotated[float, Field(ge=0, le=0.5)] = 0.22
    renditions: Annotated[tuple[RenditionGuide, ...], Field(min_length=1, max_length=16)]
    quality: dict[str, BoundsGuide] = Field(default_factory=dict)

    @field_validator("quality")
    @classmethod
    def _measures_exist(cls, bounds: dict[str, BoundsGuide]) -> dict[str, BoundsGuide]:
        for name in bounds:
            if name not in DEFAULT_BOUNDS:
                raise ValueError(f"{name!r} is no measure; there are {', '.join(DEFAULT_BOUNDS)}")
        return bounds

    @field_validator("renditions")
    @classmethod
    def _names_differ(cls, items: tuple[RenditionGuide, ...]) -> tuple[RenditionGuide, ...]:
        names = [item.name for item in items]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rendition names occur twice: {', '.join(twice)}")
        return items

    def framing_spec(self) -> FramingSpec:
        """Return the composition."""
        return FramingSpec(**self.framing.model_dump())

    def tone_spec(self) -> ToneSpec:
        """Return the targets of exposure, balance and contrast."""
        return ToneSpec(**self.tone.model_dump())

    def background_spec(self, option: str | None = None) -> BackgroundSpec:
        """Return the background of one option, by default the style's own.

        Raises:
            StyleError: not a background, or not one of this style's where it allows no other.
        """
        name = option or self.background.default
        if not self.background.allow_other and not self._offers(name):
            raise StyleError(
                f"style {self.id} allows the backgrounds {', '.join(self.background.options)}, "
                f"not {name}",
                reason="BACKGROUND_NOT_IN_STYLE",
            )
        try:
            return _background_of(name, self.background.auto_tones)
        except ValueError as error:
            raise StyleError(str(error)) from None

    def _offers(self, name: str) -> bool:
        """Tell whether a background is among the options, however its colour is written."""
        try:
            wanted = _alike(name)
        except ValueError:
            return False
        return any(_alike(option) == wanted for option in self.background.options)

    def rendition_specs(self) -> tuple[RenditionSpec, ...]:
        """Return the files that the style delivers."""
        return tuple(item.spec() for item in self.renditions)

    def bounds(self) -> Mapping[str, Bounds]:
        """Return the bounds that differ from the defaults, by measure."""
        return {name: Bounds(item.low, item.high) for name, item in self.quality.items()}


def _alike(option: str) -> tuple[str, tuple[int, int, int] | None]:
    """Return an option's kind and colour; ValueError where it is none."""
    spec = _background_of(option, AUTO_OPTIONS)
    return spec.kind, rgb_of(spec.colour) if spec.kind in ("solid", "gradient") else None


def _background_of(name: str, auto_tones: tuple[str, ...]) -> BackgroundSpec:
    """Return the background of an option's text; ValueError where it is none."""
    tones = auto_tones or AUTO_OPTIONS
    if name == "auto":
        return BackgroundSpec("auto", options=tones)
    if name == "blur":
        return BackgroundSpec("blur", options=tones)
    kind, separator, colour = name.rpartition(":")
    if kind != ("gradient" if separator else ""):
        raise ValueError(
            f'{name!r} is no background: use auto, blur, a colour or "gradient:COLOUR"'
        )
    rgb_of(colour)
    return BackgroundSpec("gradient" if kind else "solid", colour=colour, options=tones)


class StyleBook:
    """All styles and versions that are loaded."""

    def __init__(self, styles: tuple[Style, ...]) -> None:
        self._styles = tuple(sorted(styles, key=lambda style: (style.id, style.order)))

    def __iter__(self) -> Iterator[Style]:
        return iter(self._styles)

    def __len__(self) -> int:
        return len(self._styles)

    def get(self, style_id: str, version: str | None = None) -> Style:
        """Return a style, its newest version by default.

        Raises:
            StyleError: UNKNOWN_STYLE; the message names what there is.
        """
        known = [style for style in self._styles if style.id == style_id]
        if not known:
            names = ", ".join(sorted({style.id for style in self._styles}))
            raise StyleError(
                f"there is no style {style_id!r}; there are {names}", reason="UNKNOWN_STYLE"
            )
        if version is None:
            return known[-1]
        for style in known:
            if style.version == version:
                return style
        versions = ", ".join(style.version for style in known)
        raise StyleError(
            f"style {style_id} has no version {version!r}; it has {versions}",
            reason="UNKNOWN_STYLE",
        )


def load_styles(extra_dir: Path | None = None) -> StyleBook:
    """Load the built-in guides and an organisation's own.

    Args:
        extra_dir: folder of further *.yaml guides, or None.

    Raises:
        StyleError: a guide is malformed, or one id and version occurs twice.
    """
    return StyleBook(load_guides(Style, extra_dir))


def parse_style(text: str, name: str) -> Style:
    """Return the style of a YAML text.

    Args:
        text: the guide.
        name: of its file, for messages.

    Raises:
        StyleError: every mistake, each with its path: "x.yaml: framing.eye_line: ...".
    """
    return parse_guide(Style, text, name)
