"""A request's wishes with the style's values filled in."""

from __future__ import annotations

import pytest
from headshot.errors import StyleError
from headshot.pipeline.requests import (
    BackgroundKind,
    BackgroundWish,
    HeadshotOptions,
    RenditionRequest,
)
from headshot.pipeline.styles import Style, load_styles
from headshot.pipeline.wishes import resolve


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
