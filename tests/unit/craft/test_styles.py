from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from headshot.errors import StyleError
from headshot.imaging.background import NAMED
from headshot.imaging.quality import Bounds
from headshot.imaging.retouch import RetouchLevel
from headshot.pipeline.guide_files import BUILTIN, GuideHead, load_guides
from headshot.pipeline.styles import Style, load_styles, parse_style

BUILTIN_IDS = {
    "corporate-finance",
    "creative",
    "healthcare",
    "real-estate",
    "technology",
    "legal",
    "education",
}
MINIMAL = """
id: acme
version: "1.0"
description: Our look.
background: {default: navy, options: [navy, "gradient:#102030"]}
renditions: [{name: web, width: 1200, height: 1200}]
studio: {prompt: a headshot of a person}
"""


def test_the_seven_built_in_styles_load() -> None:
    book = load_styles()
    assert {style.id for style in book} == BUILTIN_IDS
    assert all(
        path.name == f"{s.id}-{s.version}.yaml"
        for s, path in zip(book, sorted(BUILTIN.glob("*.yaml")), strict=True)
    )


@pytest.mark.parametrize("style_id", sorted(BUILTIN_IDS))
def test_a_built_in_style_gives_every_part_of_the_pipeline_its_values(style_id: str) -> None:
    style = load_styles().get(style_id)
    assert 0.3 <= style.framing_spec().eye_line <= 0.4
    assert style.tone_spec().max_delta_ita <= 3
    names = {spec.name for spec in style.rendition_specs()}
    assert {"web", "print", "linkedin", "avatar"} <= names
    printed = next(spec for spec in style.rendition_specs() if spec.name == "print")
    assert (printed.width, printed.dpi) == (2400, 300)
    for option in style.background.options:
        style.background_spec(option)
    assert "plastic skin" in style.studio.negative_prompt


def test_an_organisation_adds_its_own_style_and_versions(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(MINIMAL)
    (tmp_path / "acme-2.yaml").write_text(MINIMAL.replace('"1.0"', '"1.10"'))
    (tmp_path / "acme-3.yaml").write_text(MINIMAL.replace('"1.0"', '"1.9"'))
    book = load_styles(tmp_path)
    assert len(book) == len(BUILTIN_IDS) + 3
    assert book.get("acme").version == "1.10"
    assert book.get("acme", "1.0").background_spec().colour == "navy"


def test_the_studio_exporter_reads_the_texts_that_the_service_reads(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(MINIMAL)
    heads = load_guides(GuideHead, tmp_path)
    styles = list(load_styles(tmp_path))
    assert [(head.id, head.version, head.studio) for head in heads] == [
        (style.id, style.version, style.studio) for style in styles
    ]
    assert "acme" in {head.id for head in heads}


def test_a_missing_style_or_version_is_refused_with_what_there_is() -> None:
    book = load_styles()
    with pytest.raises(StyleError, match="there are corporate-finance, creative") as caught:
        book.get("vogue")
    assert caught.value.reason == "UNKNOWN_STYLE"
    with pytest.raises(StyleError, match=r"no version '9\.9'; it has 1\.0"):
        book.get("legal", "9.9")


def test_one_id_and_version_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "b.yaml").write_text(MINIMAL)
    with pytest.raises(StyleError, match=r"b\.yaml: style acme 1\.0 is also in a\.yaml"):
        load_styles(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("framing: {eye_line: 0.9}", "x.yaml: framing.eye_line: Input should be less than"),
        ("framing: {eyeline: 0.3}", "x.yaml: framing.eyeline: no such key"),
        ("tone: {max_delta_ita: 9}", "x.yaml: tone.max_delta_ita: "),
        ("retouch: heavy", "x.yaml: retouch: Input should be 'none', 'light' or 'standard'"),
        ("quality: {realism.beauty: {low: 1}}", "x.yaml: quality: 'realism.beauty' is no measure"),
        ("quality: {realism.noise: {low: 3, high: 1}}", "the wrong way round"),
        ("quality: {realism.noise: {low: .nan}}", "realism.noise.low: Input should be a finite"),
        ("quality: {realism.noise: {high: .inf}}", "realism.noise.high: Input should be a finite"),
        ("id: again", "key 'id' occurs twice"),
        ("light_wrap: [", "x.yaml in line"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_path(change: str, message: str) -> None:
    with pytest.raises(StyleError) as caught:
        parse_style(MINIMAL + change + "\n", "x.yaml")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"1.0"', "1.0", 'version: write the version in quotes: "1.0"'),
        ("[navy,", "[mauve,", "unknown colour 'mauve'"),
        ("[navy,", '[":navy",', "':navy' is no background"),
        ("default: navy", "default: navy, auto_tones: [blur]", "unknown colour 'blur'"),
        ("default: navy", 'default: navy, auto_tones: ["gradient:navy"]', "unknown colour"),
        ("default: navy", "default: navy, auto_tones: [auto]", "unknown colour 'auto'"),
        ("default: navy", "default: grey", "default 'grey' is not among the options"),
        ("width: 1200,", "width: 9000,", "renditions.0.width: "),
        ("height: 1200}", "height: 1200, transparent: true}", "cannot be transparent as jpeg"),
        ("a headshot of a person", "x", "studio.prompt: "),
    ],
)
def test_a_bad_value_is_told_with_its_file_and_path(old: str, new: str, message: str) -> None:
    with pytest.raises(StyleError) as caught:
        parse_style(MINIMAL.replace(old, new), "x.yaml")
    assert message in caught.value.message
    assert caught.value.message.startswith("x.yaml: ")


@pytest.mark.parametrize("version", ["1.01", "01.1", "1.00", "1.10.1", "1"])
def test_a_version_is_written_in_one_way_only(version: str) -> None:
    with pytest.raises(StyleError, match=r"^x\.yaml: version: "):
        parse_style(MINIMAL.replace('"1.0"', f'"{version}"'), "x.yaml")


@pytest.mark.parametrize("key", ["[a, b]", "{a: 1}", "!!set {a}"])
def test_a_key_that_is_no_text_is_told_with_its_file_and_line(key: str) -> None:
    with pytest.raises(StyleError, match=r"^x\.yaml in line 8: a key is plain text"):
        parse_style(f"{MINIMAL}? {key}\n: 3\n", "x.yaml")


def test_a_guide_that_is_not_utf_8_is_told_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_bytes(MINIMAL.replace("Our look", "Caf\xe9").encode("latin-1"))
    with pytest.raises(StyleError, match=r"^acme\.yaml: a style guide is UTF-8 text$"):
        load_styles(tmp_path)


def test_every_mistake_of_a_guide_is_told_at_once() -> None:
    with pytest.raises(StyleError) as caught:
        parse_style(MINIMAL + "retouch: heavy\nframing: {eye_line: 2}\n", "x.yaml")
    assert "retouch" in caught.value.message
    assert "eye_line" in caught.value.message


def test_the_documents_show_the_messages_and_the_colours_that_there_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "styles.md").read_text(encoding="utf-8")
    guide, messages = re.findall(r"```(?:yaml)?\n(.*?)\n```", page, re.DOTALL)
    assert parse_style(guide, "acme.yaml").id == "acme"
    for right, wrong in (
        (" eye_line: 0.34", " eye_line: 0.9"),
        ('"navy"', '"mauve"'),
        (" contrast: 64", " contrasts: 64"),
    ):
        assert guide.count(right) == 1
        guide = guide.replace(right, wrong)
    with pytest.raises(StyleError) as caught:
        parse_style(guide, "acme.yaml")
    assert caught.value.message == " ".join(messages.split())
    for name in NAMED:
        assert f"`{name}`" in page


def test_a_style_may_forbid_other_backgrounds() -> None:
    legal = load_styles().get("legal")
    assert legal.background_spec("navy").colour == "navy"
    options = legal.background.model_copy(update={"options": ("#DCE6EA",)})
    pale = legal.model_copy(update={"background": options})
    assert pale.background_spec("#dce6ea").colour == "#dce6ea"
    with pytest.raises(StyleError):
        pale.background_spec("gradient:#dce6ea")
    with pytest.raises(StyleError, match="allows the backgrounds auto, dark-grey") as caught:
        legal.background_spec("#FF00FF")
    assert caught.value.reason == "BACKGROUND_NOT_IN_STYLE"


def test_auto_chooses_from_the_styles_own_tones() -> None:
    health = load_styles().get("healthcare")
    assert health.background_spec("auto").options == ("light-grey", "off-white", "grey")


def test_values_reach_the_specs() -> None:
    style = parse_style(
        MINIMAL + "retouch: standard\nquality: {realism.noise: {high: 2}}\ntone: {contrast: 50}\n",
        "x",
    )
    assert style.retouch is RetouchLevel.STANDARD
    assert style.bounds() == {"realism.noise": Bounds(high=2)}
    assert style.tone_spec().contrast == 50


def test_a_guide_is_plain_yaml_that_round_trips() -> None:
    style = parse_style(MINIMAL, "x.yaml")
    assert (
        Style.model_validate(yaml.safe_load(yaml.safe_dump(style.model_dump(mode="json")))) == style
    )
