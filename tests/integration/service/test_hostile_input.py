"""A thousand malformed inputs get typed refusals, and memory stays flat."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Iterator

import grpc
import psutil
import pytest
import skimage.data
from headshot.client import HeadshotCallError
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2
from PIL import Image

ALLOWED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(skimage.data.astronaut()).resize((160, 160))
    picture.save(out, kind, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(bytes(10_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + body + png_chunk(b"IEND", b"")


def animated() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (80, 80), (k * 40, 0, 0)) for k in range(4)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    return out.getvalue()


def malformed(count: int) -> Iterator[bytes]:
    """Yield files that are no usable photo: a fixed set, then seeded damage to valid ones."""
    yield from (b"", b"\x00", b"GIF89a" + bytes(50), b"%PDF-1.7\n" + bytes(99), bytes(100_000))
    yield from (png_bomb(60_000, 60_000), png_bomb(30_000, 30_000), png_bomb(1, 10_000_000))
    yield from (animated(), b"\xff\xd8\xff" + bytes(64), b"II*\x00" + b"\xff" * 64, b"RIFF" * 20)
    generator = random.Random(20261121)
    valid = [
        encoded("JPEG"),
        encoded("PNG"),
        encoded("WEBP"),
        encoded("TIFF"),
        encoded("AVIF"),
    ]
    for index in range(count):
        data = bytearray(generator.choice(valid))
        if index % 3 == 0:
            yield bytes(data[: generator.randrange(1, len(data) // 2)])
            continue
        if index % 3 == 1:
            for _ in range(generator.randrange(1, 9)):
                data[generator.randrange(min(64, len(data)))] = generator.randrange(256)
            yield bytes(data)
            continue
        start = generator.randrange(len(data))
        data[start:] = generator.randbytes(len(data) - start)
        yield bytes(data)


async def outcomes(client, files: Iterator[bytes]) -> dict[grpc.StatusCode, int]:
    """Send each file to a stage call; count codes, insist on typed details."""
    seen: dict[grpc.StatusCode, int] = {}
    for data in files:
        request = pb.EncodeIdentityRequest(photos=[photo_pb2.Photo(data=data)])
        try:
            await client.encode_identity(request, timeout_s=20)
            code = grpc.StatusCode.OK
        except HeadshotCallError as error:
            code = error.code
            assert error.reason, f"no ErrorInfo with {error}"
            assert code in ALLOWED, f"{error.code}: {error}"
        seen[code] = seen.get(code, 0) + 1
    return seen


async def test_broken_files_are_refused_with_details(client):
    seen = await outcomes(client, malformed(60))
    assert seen[grpc.StatusCode.INVALID_ARGUMENT] > 55


@pytest.mark.slow
async def test_a_thousand_broken_files_leave_memory_flat(client):
    process = psutil.Process(os.getpid())
    await outcomes(client, malformed(150))
    before = process.memory_info().rss
    seen = await outcomes(client, malformed(1000))
    assert sum(seen.values()) >= 1000
    grown = (process.memory_info().rss - before) / 2**20
    assert grown < 40, f"memory grew by {grown:.0f} MiB"


async def test_bytes_that_are_no_message_are_refused_as_such(gateway):
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        for data in (b"\xff\xff\xff\xff", b"\x0a\x7f", b"\x08"):
            call = channel.unary_unary("/headshot.v1.HeadshotService/Verify")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(data, timeout=10)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_over_the_limit_is_resource_exhausted(client):
    request = pb.MatteRequest(photo=photo_pb2.Photo(data=bytes(65 * 2**20)))
    with pytest.raises(HeadshotCallError) as caught:
        await client.matte(request, timeout_s=20)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_photo_over_the_byte_limit_says_what_the_limit_is(client):
    with pytest.raises(HeadshotCallError) as caught:
        await client.matte(pb.MatteRequest(photo=photo_pb2.Photo(data=bytes(21 * 2**20))))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason == "PHOTO_TOO_LARGE"


@pytest.mark.parametrize(
    "options",
    [
        pb.HeadshotOptions(style_id="NoSuch"),
        pb.HeadshotOptions(style_version="9"),
        pb.HeadshotOptions(candidates=9),
        pb.HeadshotOptions(steps=51),
        pb.HeadshotOptions(strength=2),
        pb.HeadshotOptions(background=style_pb2.Background(colour="mauvish")),
        pb.HeadshotOptions(background=style_pb2.Background(image=b"no picture")),
        pb.HeadshotOptions(renditions=[style_pb2.RenditionSpec(name="web", width=5000)]),
        pb.HeadshotOptions(renditions=[style_pb2.RenditionSpec(name="mine")]),
        pb.HeadshotOptions(
            renditions=[
                style_pb2.RenditionSpec(name="web", colour_space=style_pb2.COLOUR_SPACE_CMYK)
            ]
        ),
        pb.HeadshotOptions(
            renditions=[
                style_pb2.RenditionSpec(
                    name="web", format=style_pb2.IMAGE_FORMAT_JPEG, transparent=True
                )
            ]
        ),
    ],
)
async def test_options_that_cannot_be_met_are_refused_before_any_work(client, astronaut, options):
    request = pb.CreateHeadshotRequest(photos=[photo_pb2.Photo(data=astronaut)], options=options)
    with pytest.raises(HeadshotCallError) as caught:
        await client.create_headshot(request, timeout_s=20)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason


async def test_a_forged_template_is_refused(client, astronaut):
    for token in (b"x", bytes(200), os.urandom(300)):
        with pytest.raises(HeadshotCallError) as caught:
            await client.verify(
                pb.VerifyRequest(photo=photo_pb2.Photo(data=astronaut), identity_template=token)
            )
        assert caught.value.reason == "TEMPLATE_FORGED"


async def test_an_unknown_method_is_unimplemented(gateway):
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        call = channel.unary_unary("/headshot.v1.HeadshotService/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
