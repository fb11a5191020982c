"""The field rules of the proto are enforced."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from headshot.api.validation import validate
from headshot.errors import InvalidRequestError
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2


def violations(message) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        validate(message)
    return {item.field: item.description for item in caught.value.violations}


def test_a_request_as_documented_passes():
    validate(
        pb.CreateHeadshotRequest(
            photos=[photo_pb2.Photo(data=b"x", photo_id="one")],
            options=pb.HeadshotOptions(strength=0.5, candidates=8, style_version="1.0"),
        )
    )


def test_a_set_without_photos_is_refused():
    assert "photos" in violations(pb.CreateHeadshotRequest())


def test_as_many_photos_and_characters_as_allowed_pass():
    photos = [photo_pb2.Photo(data=b"x", photo_id="z" * 64)] * 16
    validate(pb.CreateHeadshotRequest(photos=photos, consent_reference="c" * 128))


def test_more_photos_than_allowed_are_refused():
    request = pb.EncodeIdentityRequest(photos=[photo_pb2.Photo(data=b"x")] * 17)
    assert "17" in violations(request)["photos"]


def test_a_list_of_millions_is_refused_by_its_length_alone():
    request = pb.EncodeIdentityRequest.FromString(b"\x0a\x00" * 200_000)
    tracemalloc.start()
    assert "200000" in violations(request)["photos"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A wrapper and a tuple for each element would take twenty times as much.
    assert peak < 1 << 20


def test_a_required_message_that_is_absent_is_named():
    assert violations(pb.MatteRequest())["photo"] == "is required"


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, math.nan, math.inf])
def test_a_strength_out_of_range_is_refused(strength):
    request = pb.CreateHeadshotRequest(
        photos=[photo_pb2.Photo(data=b"x")], options=pb.HeadshotOptions(strength=strength)
    )
    told = violations(request)["options.strength"]
    # "inf; at most 1 is allowed" would ask for less of what is no number at all.
    assert (told == "must be a finite number") == (not math.isfinite(strength))


def test_a_path_in_a_repeated_field_tells_the_index():
    request = pb.CreateHeadshotRequest(
        photos=[photo_pb2.Photo(data=b"x"), photo_pb2.Photo(data=b"y", photo_id="z" * 65)]
    )
    assert "photos[1].photo_id" in violations(request)


def test_control_characters_in_names_are_refused():
    request = pb.CreateHeadshotRequest(
        photos=[photo_pb2.Photo(data=b"x", photo_id="a\nb")], consent_reference="\x00"
    )
    assert set(violations(request)) == {"photos[0].photo_id", "consent_reference"}


def test_an_enum_value_that_is_not_defined_is_refused():
    request = pb.CreateHeadshotRequest(photos=[photo_pb2.Photo(data=b"x")], priority=99)
    assert "PRIORITY_BATCH" in violations(request)["priority"]


def test_a_background_that_is_false_is_refused():
    options = pb.HeadshotOptions(background=style_pb2.Background(auto=False))
    request = pb.CreateHeadshotRequest(photos=[photo_pb2.Photo(data=b"x")], options=options)
    assert "options.background.auto" in violations(request)


def test_a_path_in_a_file_name_template_is_refused():
    options = pb.HeadshotOptions(
        renditions=[style_pb2.RenditionSpec(name="web", filename_template="../{name}")]
    )
    request = pb.CreateHeadshotRequest(photos=[photo_pb2.Photo(data=b"x")], options=options)
    assert "options.renditions[0].filename_template" in violations(request)


def test_a_line_break_after_a_value_that_would_match_is_refused():
    request = pb.CreateHeadshotRequest(photos=[photo_pb2.Photo(data=b"x")], request_id="abc\n")
    assert "request_id" in violations(request)


def test_whole_numbers_are_told_with_all_their_digits():
    request = pb.EncodeIdentityRequest(
        photos=[photo_pb2.Photo(data=b"x")], template_ttl_seconds=31_536_001
    )
    told = "is 31536001; at most 31536000 is allowed"
    assert violations(request) == {"template_ttl_seconds": told}
    request = pb.DenoiseRequest(photo=photo_pb2.Photo(data=b"x"), strength=1.25)
    assert violations(request) == {"strength": "is 1.25; at most 1 is allowed"}
