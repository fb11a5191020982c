"""PNG headers (W3C PNG specification, third edition)."""

from __future__ import annotations

import zlib
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
    unsupported,
)

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS: Final = {
    0: (1, 2, 4, 8, 16),
    2: (8, 16),
    3: (1, 2, 4, 8),
    4: (8, 16),
    6: (8, 16),
}
_PIXELS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_METADATA: Final = frozenset({b"iCCP", b"eXIf", b"cICP", b"gAMA", b"sRGB"})
_MAX_CHUNKS: Final = 65_536
_DEFLATE_RATIO: Final = 1040
"""Deflate cannot shrink by more than 1032 to 1: fewer bytes than that are not the whole picture."""


def read_png(data: bytes, limits: DecodeLimits) -> Header:
    """Walk the chunks; the decoder gets only those that make pixels.

    Compressed text and profiles never reach a library: the profile is inflated here, up to
    MAX_ICC_BYTES, and text is left out.

    Raises:
        PhotoError: truncated, damaged, animated, or over a limit.
    """
    if len(data) < 33:
        raise truncated()
    if data[12:16] != b"IHDR":
        raise corrupt("it does not begin with its header")
    width, height, depth, colour, interlaced = _ihdr(data[16:29], limits)
    kept: list[tuple[int, int]] = []
    metadata: dict[bytes, bytes] = {}
    idat_bytes = 0
    for kind, start, end in png_chunks(data):
        if kind == b"acTL":
            raise animated("An animated PNG")
        if kind in _PIXELS:
            if kind == b"IHDR" and kept:
                raise corrupt("it has two headers")
            kept.append((start - 8, end + 4))
            idat_bytes += end - start if kind == b"IDAT" else 0
        elif kind in _METADATA:
            metadata.setdefault(kind, data[start:end])
        elif not kind[0] & 0x20:
            raise corrupt("it has an unknown critical chunk")
    raw = height * (1 + (width * _CHANNELS[colour] * depth + 7) // 8)
    if idat_bytes * _DEFLATE_RATIO < raw // (2 if interlaced else 1):
        raise truncated()
    icc, notes = _profile(metadata.get(b"iCCP"))
    cicp = metadata.get(b"cICP", b"")
    return Header(
        format="png",
        width=width,
        height=height,
        data=data[:8] + b"".join(data[start:end] for start, end in kept),
        orientation=exif_orientation(metadata.get(b"eXIf", b"")),
        bit_depth=depth,
        icc=icc,
        cicp=(cicp[0], cicp[1]) if len(cicp) == 4 else None,
        gamma=_gamma(metadata) if _CHANNELS[colour] >= 3 or colour == 3 else None,
        notes=notes,
    )


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of the body, end of the body) of each chunk, up to and with IEND.

    Raises:
        PhotoError: the file ends before IEND.
    """
    position = 8
    for _ in range(_MAX_CHUNKS):
        start = position + 8
        end = start + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : start]
        position = end + 4
        if position > len(data):
            raise truncated()
        yield kind, start, end
        if kind == b"IEND":
            return
    raise too_complex("tens of thousands of chunks")


def _ihdr(body: bytes, limits: DecodeLimits) -> tuple[int, int, int, int, bool]:
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    depth, colour, compression, filtering, interlace = body[8:13]
    if depth not in _DEPTHS.get(colour, ()):
        raise corrupt(f"it claims {depth} bits in colour type {colour}")
    if compression or filtering or interlace > 1:
        raise unsupported("This kind of PNG")
    limits.check_size(width, height)
    return width, height, depth, colour, bool(interlace)


def _gamma(metadata: dict[bytes, bytes]) -> float | None:
    """The exponent that a gAMA chunk gives, where nothing else tells and it is not sRGB's."""
    chunk = metadata.get(b"gAMA", b"")
    if len(chunk) != 4 or metadata.keys() & {b"iCCP", b"cICP", b"sRGB"}:
        return None
    coded = int.from_bytes(chunk, "big") / 100_000
    if not 0.2 <= coded <= 1.25 or abs(1 / coded - 2.2) < 0.1:
        return None
    return 1 / coded


def _profile(chunk: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """The inflated profile of an iCCP chunk, at most MAX_ICC_BYTES of it."""
    if chunk is None:
        return None, ()
    name, separator, rest = chunk[:81].partition(b"\0")
    start = len(name) + 2
    if not separator or not rest or rest[0] != 0:
        return None, ("ICC_IGNORED",)
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(chunk[start:], MAX_ICC_BYTES)
    except zlib.error:
        return None, ("ICC_IGNORED",)
    if not inflater.eof:
        return None, ("ICC_IGNORED",)
    return profile, ()
