"""WebP headers (RFC 9649)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headshot.imaging.containers.exif import exif_orientation
from headshot.imaging.containers.header import Header
from headshot.imaging.refusals import (
    MAX_ICC_BYTES,
    DecodeLimits,
    animated,
    corrupt,
    too_complex,
    truncated,
)

_MAX_CHUNKS: Final = 1024
_ANIMATION: Final = 0x02
_METADATA: Final = frozenset({b"ICCP", b"EXIF"})


def read_webp(data: bytes, limits: DecodeLimits) -> Header:
    """Walk the RIFF chunks; the canvas and the bitstream must agree.

    Raises:
        PhotoError: truncated, damaged, animated, or over a limit.
    """
    canvas: tuple[int, int] | None = None
    picture: tuple[int, int] | None = None
    metadata: dict[bytes, bytes] = {}
    for kind, start, stop in webp_chunks(data):
        if kind in (b"ANIM", b"ANMF"):
            raise animated("An animated WebP")
        if kind == b"VP8X":
            canvas = _extended(data[start:stop])
            limits.check_size(*canvas)
        elif kind in (b"VP8 ", b"VP8L"):
            if picture is not None:
                raise corrupt("it has two pictures")
            picture = _lossy(data[start:stop]) if kind == b"VP8 " else _lossless(data[start:stop])
            limits.check_size(*picture)
        else:
            metadata.setdefault(kind, data[start:stop] if kind in _METADATA else b"")
    if picture is None:
        raise truncated("it has no picture")
    if canvas is not None and canvas != picture:
        raise corrupt("canvas and picture differ in size")
    icc = metadata.get(b"ICCP")
    too_large = icc is not None and len(icc) > MAX_ICC_BYTES
    return Header(
        format="webp",
        width=picture[0],
        height=picture[1],
        data=data[: int.from_bytes(data[4:8], "little") + 8],
        orientation=exif_orientation(metadata.get(b"EXIF", b"")),
        icc=None if too_large else icc,
        notes=("ICC_IGNORED",) if too_large else (),
    )


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of the body, end of the body) of each RIFF chunk.

    Raises:
        PhotoError: the file is shorter than it says.
    """
    end = int.from_bytes(data[4:8], "little") + 8
    if len(data) < 20 or end > len(data):
        raise truncated()
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            return
        start = position + 8
        stop = start + int.from_bytes(data[position + 4 : start], "little")
        if stop > end:
            raise truncated()
        yield data[position : position + 4], start, stop
        position = stop + (stop & 1)
    raise too_complex("a thousand chunks")


def _extended(body: bytes) -> tuple[int, int]:
    if len(body) < 10:
        raise truncated()
    if body[0] & _ANIMATION:
        raise animated("An animated WebP")
    return (
        int.from_bytes(body[4:7], "little") + 1,
        int.from_bytes(body[7:10], "little") + 1,
    )


def _lossy(body: bytes) -> tuple[int, int]:
    """Size from a VP8 key frame header (RFC 6386 section 9.1)."""
    if len(body) < 10:
        raise truncated()
    if body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        raise corrupt("its picture does not begin with a key frame")
    return (
        int.from_bytes(body[6:8], "little") & 0x3FFF,
        int.from_bytes(body[8:10], "little") & 0x3FFF,
    )


def _lossless(body: bytes) -> tuple[int, int]:
    if len(body) < 5:
        raise truncated()
    if body[0] != 0x2F:
        raise corrupt("its lossless picture has the wrong signature")
    bits = int.from_bytes(body[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
