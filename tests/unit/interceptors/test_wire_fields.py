"""Fields are counted in a message's bytes, the same as in what is parsed of them."""

from __future__ import annotations

import time

import pytest
from google.protobuf.descriptor import Descriptor
from headshot.api.interceptors import wire_fields
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2

DESCRIPTOR = pb.CreateHeadshotRequest.DESCRIPTOR


def full() -> pb.CreateHeadshotRequest:
    """The largest request that the rules allow, but for the sizes of its pictures."""
    photo = photo_pb2.Photo(
        data=b"\x0a\x00" * 5000, photo_id="me", face_hint=photo_pb2.Point(x=0.5, y=0.5)
    )
    rendition = style_pb2.RenditionSpec(name="web", width=300, dpi=72, quality=90, progressive=True)
    options = pb.HeadshotOptions(
        renditions=[rendition] * 16, background=style_pb2.Background(colour="grey"), seed=2**64 - 1
    )
    return pb.CreateHeadshotRequest(photos=[photo] * 16, options=options, request_id="r")


def test_a_full_request_is_counted_with_all_that_lies_inside_and_far_from_the_limit() -> None:
    # Each photo: itself, data, id, hint, x, y. Each rendition: itself and five. Then options,
    # background, colour, seed, request_id. The bytes of a picture are none, whatever they hold.
    expected = 16 * 6 + 16 * 6 + 5
    assert wire_fields.count(full().SerializeToString(), DESCRIPTOR, 4096) == expected < 500


@pytest.mark.parametrize(
    ("element", "descriptor"),
    [
        (b"\x0a\x00", pb.EncodeIdentityRequest.DESCRIPTOR),  # photos
        (b"\x0a\x02\x22\x00", pb.TeamSettings.DESCRIPTOR),  # options.renditions
        (b"\x12\x02\x12\x00", pb.CreateHeadshotsRequest.DESCRIPTOR),  # item.photos
        (b"\xfa\x7f\x00", pb.EncodeIdentityRequest.DESCRIPTOR),  # of a newer proto
    ],
)
def test_a_message_of_millions_of_empty_elements_is_counted_to_the_limit_only(
    element: bytes, descriptor: Descriptor
) -> None:
    data = element * 4_000_000
    begun = time.process_time()
    assert wire_fields.count(data, descriptor, 4096) == 4097
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff",  # no end of a number
        b"\x0a\x05\x0a",  # a message that ends behind the whole
        b"\x0a\x02\x0a\x05\x00\x00\x00\x00\x00",  # bytes that end behind their message
        b"\x0b\x0a\x00\x0c",  # a group
        b"\x80" * 10 + b"\x01",  # a number of eleven bytes
    ],
)
def test_what_is_no_message_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire_fields.count(data, DESCRIPTOR, 4096)


def test_an_empty_message_has_no_fields() -> None:
    assert wire_fields.count(b"", DESCRIPTOR, 4096) == 0
    assert wire_fields.count(b"\x1a\x00", DESCRIPTOR, 4096) == 1
