"""Sizes, crops and names of the files that one picture becomes."""

from __future__ import annotations

import re

import numpy as np
import pytest
import skimage.data
from headshot.errors import InvalidRequestError
from headshot.imaging.encode import EncodeSpec, encode
from headshot.imaging.filenames import check_template, distinct, file_name
from headshot.imaging.renditions import MAX_SIDE, PRESETS, RenditionSpec, render, resolve
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.imaging_io.press import press_profile


@pytest.fixture(scope="module")
def master() -> np.ndarray:
    return np.asarray(skimage.data.astronaut())


def reason(caught: pytest.ExceptionInfo[InvalidRequestError]) -> str:
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "size", "dpi"),
    [
        ("web", (1200, 1200), 72),
        ("print", (2400, 2400), 300),
        ("avatar", (256, 256), 72),
        ("cutout", (1200, 1200), 72),
        ("wide", (1920, 1080), 72),
        ("landscape", (1600, 1200), 72),
    ],
)
def test_presets_have_their_sizes(name: str, size: tuple[int, int], dpi: int) -> None:
    spec = PRESETS[name]
    assert (spec.width, spec.height) == size
    assert spec.dpi == spec.encoding.dpi == dpi


def test_linkedin_is_a_square_of_at_least_its_minimum() -> None:
    assert PRESETS["linkedin"].width == PRESETS["linkedin"].height >= 400


def test_downsampling_says_nothing_and_meets_the_size(master: np.ndarray) -> None:
    made = render(master, resolve("avatar"))
    assert made.pixels.shape == (256, 256, 3)
    assert made.notes == ()
    assert made.pixels.mean() == pytest.approx(master.mean(), abs=0.5)


def test_the_master_itself_is_handed_on_untouched(master: np.ndarray) -> None:
    made = render(master, resolve("own", width=512))
    np.testing.assert_array_equal(made.pixels, master)
    assert made.notes == ()


@pytest.mark.parametrize("side", ["width", "height"])
def test_one_side_of_an_own_name_makes_a_square(side: str) -> None:
    spec = resolve("mine", **{side: 500})  # type: ignore[arg-type]
    assert (spec.name, spec.width, spec.height) == ("mine", 500, 500)


def test_enlarging_is_done_and_said(master: np.ndarray) -> None:
    made = render(master, resolve("web"))
    assert made.pixels.shape == (1200, 1200, 3)
    assert made.notes == ("UPSAMPLED",)


def test_another_aspect_is_cropped_not_stretched_and_said() -> None:
    # A grid of squares must stay square.
    yy, xx = np.mgrid[0:600, 0:600]
    board = (((yy // 60 + xx // 60) % 2) * 255).astype(np.uint8)
    made = render(np.dstack([board] * 3), resolve("own", width=400, height=200))
    assert made.pixels.shape == (200, 400, 3)
    assert made.notes == ("CROPPED",)
    row, column = made.pixels[20, :, 0] > 127, made.pixels[:, 20, 0] > 127
    assert np.diff(np.flatnonzero(np.diff(row))).tolist() == [40] * 8
    assert set(np.diff(np.flatnonzero(np.diff(column)))) == {40}


@pytest.mark.parametrize(("focus", "top"), [((0.5, 0.0), 0), ((0.5, 1.0), 100), ((0.5, 0.5), 50)])
def test_a_crop_follows_the_focus(focus: tuple[float, float], top: int) -> None:
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 200, axis=1)
    spec = resolve("own", width=200, height=100)
    made = render(np.dstack([ramp] * 3), spec, focus=focus)
    assert made.pixels[0, 0, 0] == top


def test_rounding_of_the_master_is_no_crop() -> None:
    made = render(np.zeros((853, 1137, 3), np.uint8), resolve("landscape", width=640))
    assert made.pixels.shape == (480, 640, 3)
    assert not made.cropped


def test_fine_detail_becomes_grey_not_moire() -> None:
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    made = render(stripes, resolve("own", width=130)).pixels[10:-10, 10:-10]
    assert int(made.max()) - int(made.min()) < 8


def test_hidden_colour_does_not_bleed_into_a_cutout() -> None:
    rgba = np.zeros((800, 800, 4), np.uint8)
    rgba[..., 1] = 255  # bright green, all of it hidden
    rgba[200:600, 200:600] = (120, 90, 80, 255)
    made = render(rgba, resolve("cutout", width=100)).pixels
    seen = made[made[..., 3] > 20]
    assert int(seen[:, 1].max()) <= 100
    assert made.shape == (100, 100, 4)


def test_what_becomes_transparent_in_a_smaller_cutout_is_black() -> None:
    # Colours ring beyond opacities: single pixels of many colours, as hair has them.
    rng = np.random.default_rng(0)
    cutout = rng.integers(0, 256, (400, 400, 4), dtype=np.uint8)
    cutout[..., 3] = np.where(rng.random((400, 400)) < 0.03, cutout[..., 3], 0)
    cutout[cutout[..., 3] == 0] = 0
    made = render(cutout, resolve("own", width=150, transparent=True, image_format="png")).pixels
    hidden = made[..., 3] == 0
    assert hidden.mean() > 0.2
    assert not made[hidden].any()


def test_an_opaque_rendition_of_a_cutout_is_white_behind() -> None:
    made = render(np.zeros((300, 300, 4), np.uint8), resolve("avatar"))
    assert made.pixels.shape == (256, 256, 3)
    assert int(made.pixels.min()) == 255


def test_a_cutout_of_an_opaque_picture_is_refused(master: np.ndarray) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        render(master, resolve("cutout"))
    assert reason(caught) == "TRANSPARENCY_UNAVAILABLE"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "poster"}, "UNKNOWN_RENDITION"),
        ({"name": "own", "width": MAX_SIDE + 1}, "INVALID_RENDITION"),
        ({"name": "own", "width": 31}, "INVALID_RENDITION"),
        ({"name": "wide", "height": 4000}, "INVALID_RENDITION"),
        ({"name": "own", "width": 4096, "height": 32}, "INVALID_RENDITION"),
        ({"name": "own", "width": 300, "height": 901}, "INVALID_RENDITION"),
        ({"name": "web", "dpi": 1201}, "INVALID_RENDITION"),
        ({"name": "web", "image_format": "gif"}, "INVALID_RENDITION"),
        ({"name": "web", "quality": 101}, "INVALID_ENCODING"),
        ({"name": "print", "cmyk": True}, "CMYK_PROFILE_MISSING"),
        ({"name": "cutout", "image_format": "jpeg"}, "TRANSPARENCY_NOT_SUPPORTED"),
        ({"name": "cutout", "cmyk": True, "cmyk_profile": b"x"}, "CMYK_NOT_SUPPORTED"),
        ({"name": "web", "template": "{secret}.jpg"}, "INVALID_FILE_NAME"),
    ],
)
def test_impossible_renditions_are_refused(options: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        resolve(**options)  # type: ignore[arg-type]
    assert reason(caught) == code


def test_a_transparent_cmyk_file_is_refused_with_every_format_that_would_do() -> None:
    with pytest.raises(InvalidRequestError, match="PNG, WebP, AVIF or TIFF in sRGB"):
        resolve("cutout", image_format="tiff", cmyk=True, cmyk_profile=press_profile())


def test_a_preset_keeps_what_is_not_replaced() -> None:
    spec = resolve("print", image_format="tiff", cmyk=True, cmyk_profile=press_profile())
    assert (spec.width, spec.height, spec.dpi) == (2400, 2400, 300)
    assert (spec.encode.format, spec.encode.colour) == ("tiff", "cmyk")
    assert resolve("wide", width=960).height == 540
    assert resolve("landscape", height=600).width == 800
    assert resolve("web", transparent=True).encode.format == "png"
    assert resolve("cutout", image_format="webp").transparent


def test_density_reaches_the_file(master: np.ndarray) -> None:
    spec = resolve("own", width=64, dpi=240)
    made = render(master, spec)
    assert b"JFIF\0\1\1\1\0\xf0\0\xf0" in encode(made.pixels, spec.encoding)[:40]


def test_default_names_tell_size_and_kind() -> None:
    assert resolve("web").filename() == "web-1200x1200.jpg"
    assert resolve("cutout").filename({"style": "legal"}) == "cutout-1200x1200.png"
    spec = resolve("print", template="{request_id}_{style}_{name}.{ext}", image_format="tiff")
    named = spec.filename({"request_id": "a7", "style": "corporate-finance"})
    assert named == "a7_corporate-finance_print.tif"


SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_gives_a_safe_name(style: str, request_id: str) -> None:
    for template in ("{style}", "{style}.{ext}", "{request_id}{style}", "..{style}-"):
        fields = {"style": style, "request_id": request_id, "ext": "jpg"}
        made = file_name(template, fields)
        assert SAFE.fullmatch(made)
        assert len(made) <= 129
        assert ".." not in made


def test_a_long_extension_and_many_equal_names_stay_short() -> None:
    long = file_name("a.{name}{name}{name}", {"name": "n" * 48})
    assert SAFE.fullmatch(long)
    assert len(long) <= 128
    assert max(len(name) for name in distinct([long] * 16)) <= 128


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("../../etc/passwd", "etc-passwd.jpg"),
        ("José Müller", "Jose-Muller.jpg"),
        ("CON", "_CON.jpg"),
        ("a\r\nSet-Cookie: x", "a-Set-Cookie-x.jpg"),
        ("", "headshot.jpg"),
        (".hidden", "hidden.jpg"),
    ],
)
def test_values_are_made_safe(style: str, expected: str) -> None:
    assert file_name("{style}.{ext}", {"style": style, "ext": "jpg"}) == expected


def test_values_in_another_script_stay_different() -> None:
    a, b = (file_name("{style}.{ext}", {"style": s, "ext": "png"}) for s in ("李明", "王芳"))
    assert a != b


@pytest.mark.parametrize(
    "template",
    ["", "a/b", "a b", "{name.__class__}", "{name!r}", "{name:>99999999}", "{0}", "{", "x" * 200],
)
def test_unsafe_templates_are_refused(template: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_template(template)
    assert reason(caught) == "INVALID_FILE_NAME"


def test_equal_names_are_numbered() -> None:
    names = ["a.jpg", "A.jpg", "a.png", "a.jpg", "a-2.jpg"]
    assert distinct(names) == ["a.jpg", "A-2.jpg", "a.png", "a-3.jpg", "a-2-2.jpg"]


def test_specs_take_their_own_encoding() -> None:
    spec = RenditionSpec("own", 100, 50, 150, EncodeSpec(format="webp", quality=70))
    assert spec.aspect == 2
    assert spec.encoding == EncodeSpec(format="webp", quality=70, dpi=150)
