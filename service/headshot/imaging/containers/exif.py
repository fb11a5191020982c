"""TIFF image file directories: the skeleton of both EXIF and TIFF files."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

ORIENTATION: Final = 274
_EXIF, _INTEROP, _SPACE, _RULE = 0x8769, 0xA005, 0xA001, 1
_SRGB: Final = 1
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MAX_ENTRIES: Final = 512


class DirectoryError(ValueError):
    """The directory breaks its format; the message says where."""


@dataclass(frozen=True)
class Entry:
    """One tag: its type, how many values, and the bytes that hold them."""

    kind: int
    count: int
    payload: bytes


@dataclass(frozen=True)
class Directory:
    """One image file directory; payloads are slices, decoded on demand.

    Attributes:
        order: struct byte order, "<" or ">".
        entries: tag -> entry.
        next_offset: offset of the next directory, 0 at the last.
    """

    order: str
    entries: dict[int, Entry]
    next_offset: int

    def numbers(self, tag: int, at_most: int) -> tuple[int, ...]:
        """Values of a SHORT or LONG tag; empty where it is absent.

        Raises:
            DirectoryError: another type, or more values than `at_most`.
        """
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        code = {1: "B", 3: "H", 4: "I"}.get(entry.kind)
        if code is None or not 1 <= entry.count <= at_most:
            raise DirectoryError(f"tag {tag} has {entry.count} values of type {entry.kind}")
        return struct.unpack(f"{self.order}{entry.count}{code}", entry.payload)

    def number(self, tag: int, default: int | None = None) -> int:
        """The only value of a tag."""
        values = self.numbers(tag, 1)
        if values:
            return values[0]
        if default is None:
            raise DirectoryError(f"tag {tag} is missing")
        return default


def byte_order(data: bytes, start: int = 0) -> str | None:
    """`<` or `>` where a classic TIFF header stands at `start`, else None."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(data[start : start + 4])


def read_directory(
    data: bytes, offset: int, order: str, keep: frozenset[int] | None = None
) -> Directory:
    """Read one directory of `data`, whose offsets count from its first byte.

    Args:
        data: a TIFF file or the TIFF part of an EXIF block.
        offset: where the directory begins.
        order: "<" or ">".
        keep: tags to keep; the payloads of others are not touched.

    Raises:
        DirectoryError: it, or a kept value, lies outside of the data; too many entries.
    """
    if offset < 8 or offset + 2 > len(data):
        raise DirectoryError("directory outside of the file")
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    end = offset + 2 + 12 * count
    if not 1 <= count <= _MAX_ENTRIES or end > len(data):
        raise DirectoryError(f"directory of {count} entries")
    entries: dict[int, Entry] = {}
    for position in range(offset + 2, end, 12):
        if position + 12 > len(data):
            raise DirectoryError("directory cut short")
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, position)
        if (keep is not None and tag not in keep) or tag in entries or kind not in _SIZES:
            continue
        size = values * _SIZES[kind]
        start = position + 8
        if size > 4:
            (start,) = struct.unpack_from(f"{order}I", data, start)
        if start + size > len(data):
            raise DirectoryError(f"value of tag {tag} outside of the file")
        entries[tag] = Entry(kind, values, data[start : start + size])
    following = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
    return Directory(order, entries, following)


def exif_orientation(block: bytes) -> int:
    """Orientation 1..8 from an EXIF block (with or without its "Exif" prefix); 1 when unclear."""
    try:
        _, first = _first_directory(block, frozenset({ORIENTATION}))
        value = first.number(ORIENTATION, 1)
    except DirectoryError:
        return 1
    return value if 1 <= value <= 8 else 1


def exif_is_adobe_rgb(block: bytes) -> bool:
    """Whether an EXIF block says Adobe RGB as cameras do without a profile (DCF 2.0, 3.2.3)."""
    try:
        data, first = _first_directory(block, frozenset({_EXIF}))
        order = first.order
        exif = read_directory(data, first.number(_EXIF), order, frozenset({_SPACE, _INTEROP}))
        rule = read_directory(data, exif.number(_INTEROP), order, frozenset({_RULE}))
        return exif.number(_SPACE) != _SRGB and rule.entries[_RULE].payload[:3] == b"R03"
    except (DirectoryError, KeyError):
        return False


def _first_directory(block: bytes, keep: frozenset[int]) -> tuple[bytes, Directory]:
    """The TIFF part of an EXIF block and its first directory."""
    data = block.removeprefix(b"Exif\0\0")
    order = byte_order(data)
    if order is None or len(data) < 8:
        raise DirectoryError("no TIFF header")
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    return data, read_directory(data, offset, order, keep)
