"""Boxes and items of the ISO base media file format (ISO/IEC 14496-12, 23008-12)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from headshot.imaging.refusals import corrupt, too_complex, truncated, unsupported

_MAX_BOXES: Final = 4096
_MAX_ITEMS: Final = 2048
_MAX_EXTENTS: Final = 8192


@dataclass
class Box:
    """One box: its type and what is in it."""

    kind: bytes
    body: bytes


@dataclass
class Meta:
    """The items of a file.

    Attributes:
        primary: id of the picture to show.
        items: id -> item type.
        properties: of all items.
        associations: id -> 1-based indices of its properties.
        parts: id -> the items that it is made of (grid -> tiles).
        extents: id -> (offset, length) pieces of its data; a length of 0 goes to the end.
        inside: ids whose data lie in `idat` rather than in the file.
        idat: data kept inside of the meta box.
    """

    primary: int | None = None
    items: dict[int, bytes] = field(default_factory=dict)
    properties: list[Box] = field(default_factory=list)
    associations: dict[int, list[int]] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    inside: set[int] = field(default_factory=set)
    idat: bytes = b""

    def of(self, item: int) -> list[Box]:
        """The properties of one item, in their order."""
        indices = self.associations.get(item, [])
        return [self.properties[i - 1] for i in indices if 1 <= i <= len(self.properties)]

    def size(self, item: int) -> tuple[int, int]:
        """Width and height from `ispe`."""
        for box in self.of(item):
            if box.kind == b"ispe" and len(box.body) >= 12:
                return int.from_bytes(box.body[4:8], "big"), int.from_bytes(box.body[8:12], "big")
        raise corrupt("an item has no size")

    def payload(self, item: int, data: bytes) -> bytes:
        """The coded data of one item; PHOTO_TRUNCATED where they lie outside of the file."""
        source = self.idat if item in self.inside else data
        pieces = []
        for offset, length in self.extents.get(item, ()):
            end = offset + length if length else len(source)
            if end > len(source) or offset > len(source):
                raise truncated("picture data lie outside of the file")
            pieces.append(source[offset:end])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def boxes(
    data: bytes, start: int, end: int, *, top: bool = False
) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of the body, end) of the boxes in data[start:end]."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            if top and start < end:
                raise truncated()
            return
        size = int.from_bytes(data[start : start + 4], "big")
        kind, body = data[start + 4 : start + 8], start + 8
        if size == 1:
            size = int.from_bytes(data[body : body + 8], "big")
            body += 8
        elif size == 0:
            size = end - start
        if start + size > end:
            raise truncated() if top else corrupt("a box is longer than its parent")
        if size < body - start:
            raise corrupt("a box is shorter than its header")
        yield kind, body, start + size
        start += size
    raise too_complex("thousands of boxes")


def parse_meta(body: bytes) -> Meta:
    """Read the meta box.

    Raises:
        PhotoError: it is damaged or unreasonably large.
        IndexError: it is cut short.
    """
    meta = Meta()
    for kind, start, end in boxes(body, 4, len(body)):
        inner = body[start:end]
        if kind == b"pitm":
            meta.primary = int.from_bytes(inner[4:8] if inner[0] else inner[4:6], "big")
        elif kind == b"iinf":
            _parse_items(inner, meta)
        elif kind == b"iloc":
            _parse_locations(inner, meta)
        elif kind == b"idat":
            meta.idat = inner
        elif kind == b"iref":
            _parse_references(inner, meta)
        elif kind == b"iprp":
            for sub, first, last in boxes(inner, 0, len(inner)):
                if sub == b"ipco":
                    meta.properties = [Box(k, inner[s:e]) for k, s, e in boxes(inner, first, last)]
                elif sub == b"ipma":
                    _parse_associations(inner[first:last], meta)
    return meta


def _parse_items(body: bytes, meta: Meta) -> None:
    for kind, start, end in boxes(body, 8 if body[0] else 6, len(body)):
        version = body[start]
        if kind != b"infe" or version < 2:
            continue
        width = 2 if version == 2 else 4
        item = int.from_bytes(body[start + 4 : start + 4 + width], "big")
        meta.items[item] = body[start + 6 + width : min(start + 10 + width, end)]
        if len(meta.items) > _MAX_ITEMS:
            raise too_complex("thousands of items")


def _parse_locations(body: bytes, meta: Meta) -> None:
    """Item locations (`iloc`)."""
    reader = _Reader(body, 4)
    version = body[0]
    offset_size, length_size = divmod(reader.number(1), 16)
    base_size, index_size = divmod(reader.number(1), 16)
    wide = 4 if version == 2 else 2
    extents = 0
    for _ in range(reader.number(wide)):
        item = reader.number(wide)
        method = reader.number(2) & 15 if version in (1, 2) else 0
        if method > 1:
            raise unsupported("This kind of HEIF (data made of other items)")
        reader.number(2)  # data reference
        base = reader.number(base_size)
        pieces = []
        for _ in range(reader.number(2)):
            reader.number(index_size if version in (1, 2) else 0)
            pieces.append((base + reader.number(offset_size), reader.number(length_size)))
            extents += 1
            if extents > _MAX_EXTENTS:
                raise too_complex("thousands of pieces")
        if item not in meta.extents:
            meta.extents[item] = pieces
            if method == 1:
                meta.inside.add(item)


class _Reader:
    """Big-endian numbers, one after the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    def number(self, width: int) -> int:
        """The next `width` bytes; 0 for none."""
        end = self._position + width
        if end > len(self._data):
            raise IndexError("box cut short")
        value = int.from_bytes(self._data[self._position : end], "big")
        self._position = end
        return value


def _parse_references(body: bytes, meta: Meta) -> None:
    width = 4 if body[0] else 2
    for kind, start, _ in boxes(body, 4, len(body)):
        if kind != b"dimg":
            continue
        item = int.from_bytes(body[start : start + width], "big")
        first = start + width + 2
        count = int.from_bytes(body[start + width : first], "big")
        if count > _MAX_ITEMS:
            raise too_complex("thousands of tiles")
        meta.parts[item] = [
            int.from_bytes(body[first + i * width : first + (i + 1) * width], "big")
            for i in range(count)
        ]


def _parse_associations(body: bytes, meta: Meta) -> None:
    item_width = 4 if body[0] else 2
    index_width = 2 if body[3] & 1 else 1
    count = int.from_bytes(body[4:8], "big")
    if count > _MAX_ITEMS:
        raise too_complex("thousands of items")
    position = 8
    for _ in range(count):
        item = int.from_bytes(body[position : position + item_width], "big")
        position += item_width
        entries = body[position]
        position += 1
        mask = 0x7FFF if index_width == 2 else 0x7F
        meta.associations[item] = [
            int.from_bytes(body[position + i * index_width :][:index_width], "big") & mask
            for i in range(entries)
        ]
        position += entries * index_width
