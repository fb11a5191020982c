"""A request's wishes with the style's values filled in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from headshot.errors import InvalidRequestError, StyleError
from headshot.imaging import backdrop
from headshot.imaging.background import BackgroundSpec
from headshot.imaging.decode import decode_photo
from headshot.pipeline.requests import (
    BackgroundKind,
    BackgroundWish,
    HeadshotOptions,
    RenditionRequest,
)
from headshot.pipeline.styles import Style, load_styles
from headshot.pipeline.wishes import resolve
from PIL import Image


@pytest.fixture
def style() -> Style:
    return load_styles(None).get("corporate-finance")


def test_an_empty_request_takes_everything_from_the_style(style):
    wish = resolve(style, HeadshotOptions(), None)
    assert wish.specs == style.rendition_specs()
    assert wish.ground == style.background_spec()
    assert wish.retouch == str(style.retouch)
    assert wish.tone == style.tone_spec()


def test_what_is_asked_for_goes_before_the_style(style):
    options = HeadshotOptions(
        renditions=(RenditionRequest("web", width=300, height=300),), retouch="none"
    )
    wish = resolve(style, options, None)
    assert [(spec.width, spec.height) for spec in wish.specs] == [(300, 300)]
    assert wish.retouch == "none"


def test_a_picture_behind_the_person_needs_a_style_that_allows_it(style):
    strict = style.model_copy(
        update={"background": style.background.model_copy(update={"allow_other": False})}
    )
    wanted = HeadshotOptions(background=BackgroundWish(BackgroundKind.IMAGE, image=b"x"))
    with pytest.raises(StyleError) as caught:
        resolve(strict, wanted, None)
    assert caught.value.reason == "BACKGROUND_NOT_IN_STYLE"


def test_provenance_tells_only_steps_that_are_taken(style):
    plain = resolve(style, HeadshotOptions(retouch="none"), None)
    assert plain.steps(enlarged=False) == ("denoise", "tone", "matte", "background")
    light = resolve(style, HeadshotOptions(retouch="light"), None)
    assert {"retouch", "upscale"} <= set(light.steps(enlarged=True))


def picture(width: int, height: int) -> bytes:
    """Return a JPEG of that size."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize("size", [(3000, 2000), (2000, 3000), (4000, 500), (200, 300)])
def test_a_picture_behind_the_person_is_kept_no_larger_than_it_takes_to_cover(
    style: Style, size: tuple[int, int]
):
    data = picture(*size)
    options = HeadshotOptions(
        background=BackgroundWish(BackgroundKind.IMAGE, image=data),
        renditions=(RenditionRequest("wide", width=640), RenditionRequest("avatar")),
    )
    kept = resolve(style, options, None).ground.image
    assert kept is not None
    assert min(kept.shape[:2]) == min(640, *size)
    # As drawn from every pixel of it.
    whole = BackgroundSpec(kind="image", image=decode_photo(data).pixels)
    drawn = backdrop.render(BackgroundSpec(kind="image", image=kept), (640, 360))
    apart = np.abs(drawn.astype(int) - backdrop.render(whole, (640, 360)).astype(int))
    assert apart.mean() < 1
    assert apart.max() <= 4


def test_a_background_of_a_large_camera_takes_no_more_than_the_largest_file(style: Style):
    options = HeadshotOptions(
        background=BackgroundWish(BackgroundKind.IMAGE, image=picture(7000, 5000)),
        renditions=(RenditionRequest("print", width=4096),),
    )
    kept = resolve(style, options, None).ground.image
    assert kept is not None
    assert max(kept.shape[:2]) <= 6144


@pytest.mark.parametrize(("text", "field"), [("auto", "auto"), ("blur", "blurred_scene")])
def test_a_colour_is_no_other_kind_of_background(style: Style, text: str, field: str):
    options = HeadshotOptions(background=BackgroundWish(BackgroundKind.COLOUR, colour=text))
    with pytest.raises(StyleError, match=f"{text} is no colour.* {field}$") as caught:
        resolve(style, options, None)
    assert [item.field for item in caught.value.violations] == ["options.background.colour"]


WEB = RenditionRequest("web")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (HeadshotOptions(renditions=(WEB, RenditionRequest("poster"))), "options.renditions[1]"),
        (HeadshotOptions(renditions=(RenditionRequest("a", width=10),)), "options.renditions[0]"),
        (
            HeadshotOptions(renditions=(RenditionRequest("web", cmyk=True),)),
            "options.renditions[0]",
        ),
        (
            HeadshotOptions(renditions=(WEB, RenditionRequest("web", filename_template="{foo}"))),
            "options.renditions[1]",
        ),
        (
            HeadshotOptions(background=BackgroundWish(BackgroundKind.COLOUR, colour="purplish")),
            "options.background.colour",
        ),
        (
            HeadshotOptions(background=BackgroundWish(BackgroundKind.GRADIENT, colour="purplish")),
            "options.background.gradient",
        ),
        (
            HeadshotOptions(background=BackgroundWish(BackgroundKind.IMAGE, image=b"no picture")),
            "options.background.image",
        ),
    ],
)
def test_a_wish_that_cannot_be_met_names_its_field(style, options, field):
    with pytest.raises(InvalidRequestError) as caught:
        resolve(style, options, None)
    (violation,) = caught.value.violations
    assert (violation.field, violation.description) == (field, caught.value.message)
