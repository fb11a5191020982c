"""JPEG headers (ITU-T T.81 annex B; JFIF; EXIF; ICC.1 annex B.4; Adobe technical note 5116)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from headshot.imaging.containers.exif import exif_is_adobe_rgb, exif_orientation
from headshot.imaging.containers.header import Header
from headshot.imaging.refusals import (
    MAX_ICC_BYTES,
    DecodeLimits,
    corrupt,
    too_complex,
    truncated,
    unsupported,
)

_MAX_SEGMENTS: Final = 4096
_MAX_SCANS: Final = 40
"""Every scan of a progressive file walks the whole picture: a few bytes can cost seconds. Encoders
write at most 17."""
_MAX_FILL: Final = 1024

_SOF: Final = frozenset({0xC0, 0xC1, 0xC2})
_OTHER_SOF: Final = frozenset({0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
_SOS, _EOI = 0xDA, 0xD9
APP0, APP1, APP2, APP11, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xEE
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker in coded data: there, 0xFF is followed by zero, by a restart number, or by fill."""
_NOT_FILL: Final = re.compile(rb"[^\xff]")
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})


def read_jpeg(data: bytes, limits: DecodeLimits) -> Header:
    """Walk the marker segments up to the first scan.

    Raises:
        PhotoError: truncated, damaged, over a limit, or of a kind that cameras do not write
            (lossless, arithmetic, 12-bit).
    """
    frame: bytes | None = None
    orientation = 0
    adobe = adobe_rgb = False
    icc = _IccChunks()
    position = 2
    for marker, body, end in jpeg_segments(data):
        position = end
        if marker in _OTHER_SOF:
            raise unsupported("This kind of JPEG (lossless or arithmetic)")
        if marker in _SOF:
            if frame is not None:
                raise corrupt("it has two frame headers")
            frame = body
        elif marker == APP1 and not orientation and body.startswith(b"Exif\0\0"):
            orientation = exif_orientation(body)
            adobe_rgb = exif_is_adobe_rgb(body)
        elif marker == APP2 and body.startswith(b"ICC_PROFILE\0"):
            icc.add(body[12:])
        elif marker == APP14 and body.startswith(b"Adobe"):
            adobe = True
    if frame is None:
        raise corrupt("a scan comes before the frame header")
    width, height, components = _frame(frame, limits)
    _walk_scans(data, position)
    profile = icc.joined()
    return Header(
        format="jpeg",
        width=width,
        height=height,
        data=data,
        orientation=orientation or 1,
        icc=profile,
        adobe_rgb=adobe_rgb and components == 3,
        cmyk=components == 4,
        inverted=adobe,
        notes=("ICC_IGNORED",) if icc.count and profile is None else (),
    )


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, body, end) of each segment, up to and with the first start of scan.

    Raises:
        PhotoError: the file ends or breaks before a scan.
    """
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker, position = _next_marker(data, position)
        if marker in _STANDALONE:
            continue
        if marker == _EOI:
            raise truncated("it ends before its picture")
        length = int.from_bytes(data[position : position + 2], "big")
        end = position + length
        if end > len(data) or position + 2 > len(data):
            raise truncated()
        if length < 2:
            raise corrupt("a segment has no length")
        yield marker, data[position + 2 : end], end
        if marker == _SOS:
            return
        position = end
    raise too_complex("thousands of metadata segments")


def _walk_scans(data: bytes, position: int) -> None:
    """Go from the first scan's data to the end marker, counting scans.

    What comes after the end (previews, a motion clip) is not looked at.

    Raises:
        PhotoError: there is no end marker, or more scans than _MAX_SCANS.
    """
    scans = 1
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            raise truncated()
        marker, position = data[found.end() - 1], found.end()
        if marker == _EOI:
            return
        if marker == _SOS:
            scans += 1
            if scans > _MAX_SCANS:
                raise too_complex("dozens of scans")
        if marker not in _STANDALONE:
            position += int.from_bytes(data[position : position + 2], "big")
    raise too_complex("thousands of segments between its scans")


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at `position` and where its segment begins."""
    if position + 2 > len(data):
        raise truncated()
    if data[position] != 0xFF:
        raise corrupt("a marker is missing")
    found = _NOT_FILL.search(data, position + 1, position + _MAX_FILL)
    if found is None:
        raise truncated()
    marker = found[0][0]
    if marker == 0:
        raise corrupt("a marker is missing")
    return marker, found.end()


def _frame(body: bytes, limits: DecodeLimits) -> tuple[int, int, int]:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise corrupt("its frame header has the wrong length")
    if body[0] != 8:
        raise unsupported(f"JPEG of {body[0]} bits")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    limits.check_size(width, height)
    if body[5] not in (1, 3, 4):
        raise unsupported(f"JPEG of {body[5]} components")
    return width, height, body[5]


class _IccChunks:
    """ICC profile in APP2 segments: each begins with its number and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: dict[int, bytes] = {}
        self._total = 0
        self._size = 0

    def add(self, body: bytes) -> None:
        self.count += 1
        if len(body) < 2 or (self._total and body[1] != self._total):
            self._size = MAX_ICC_BYTES + 1
            return
        self._total = body[1]
        self._size += len(body)
        self._parts.setdefault(body[0], body[2:])

    def joined(self) -> bytes | None:
        """The profile; None where there is none, or chunks are missing, or it is too large."""
        if not self._total or self._size > MAX_ICC_BYTES:
            return None
        if sorted(self._parts) != list(range(1, self._total + 1)):
            return None
        return b"".join(self._parts[number] for number in sorted(self._parts))
