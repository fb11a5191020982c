"""Putting metadata into encoded JPEG and PNG files without touching their pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from headshot.imaging.containers.jpeg import APP0, APP1, APP2

XMP_PREFIX: Final = b"http://ns.adobe.com/xap/1.0/\0"
_ICC_PREFIX: Final = b"ICC_PROFILE\0"
_SEGMENT: Final = 65_533
_XMP_KEYWORD: Final = b"XML:com.adobe.xmp"
_INCH: Final = 0.0254


def jpeg_with_metadata(
    jpeg: bytes, *, icc: bytes | None, xmp: bytes | None, dpi: int | None
) -> bytes:
    """A JPEG with a profile (APP2), an XMP packet (APP1) and a density.

    The density goes into the JFIF header; CMYK files have none, they get a minimal EXIF block.

    Raises:
        ValueError: the packet is longer than the 65,502 bytes that one segment holds.
    """
    body = 2
    out = [jpeg[:2]]
    if jpeg[2:4] == bytes((0xFF, APP0)) and jpeg[6:11] == b"JFIF\0":
        body += 2 + int.from_bytes(jpeg[4:6], "big")
        jfif = bytearray(jpeg[2:body])
        if dpi is not None:
            struct.pack_into(">BHH", jfif, 11, 1, dpi, dpi)
        out.append(bytes(jfif))
    elif dpi is not None:
        out.append(_segment(APP1, exif_resolution(dpi)))
    if xmp is not None:
        if len(xmp) > _SEGMENT - len(XMP_PREFIX):
            raise ValueError("XMP packet too long for one segment")
        out.append(_segment(APP1, XMP_PREFIX + xmp))
    if icc is not None:
        room = _SEGMENT - len(_ICC_PREFIX) - 2
        parts = [icc[i : i + room] for i in range(0, len(icc), room)]
        out += [
            _segment(APP2, _ICC_PREFIX + bytes((number, len(parts))) + part)
            for number, part in enumerate(parts, 1)
        ]
    return b"".join((*out, jpeg[body:]))


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def exif_resolution(dpi: int) -> bytes:
    """An EXIF block of XResolution, YResolution (rationals) and ResolutionUnit (inch) alone."""
    values = 8 + 2 + 3 * 12 + 4
    entries = [(282, 5, values), (283, 5, values)]
    table = b"".join(struct.pack(">HHII", tag, kind, 1, at) for tag, kind, at in entries)
    unit = struct.pack(">HHIHH", 296, 3, 1, 2, 0)
    head = struct.pack(">2sHIH", b"MM", 42, 8, 3)
    return b"Exif\0\0" + head + table + unit + struct.pack(">III", 0, dpi, 1)


def png_with_metadata(
    png: bytes, *, icc: bytes | None, xmp: bytes | None, dpi: int | None
) -> bytes:
    """A PNG with a profile (iCCP), an XMP packet (iTXt) and a density (pHYs), after its header."""
    chunks: list[tuple[bytes, bytes]] = []
    if icc is not None:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc, 9)))
    if dpi is not None:
        per_metre = round(dpi / _INCH)
        chunks.append((b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    if xmp is not None:
        chunks.append((b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + xmp))
    head = 8 + 12 + 13
    return png[:head] + _chunks(chunks) + png[head:]


def grey_png(width: int, height: int, compressed: bytes) -> bytes:
    """An 8-bit grey PNG of filtered rows that zlib has compressed."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunks(
        [(b"IHDR", header), (b"IDAT", compressed), (b"IEND", b"")]
    )


def _chunks(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
