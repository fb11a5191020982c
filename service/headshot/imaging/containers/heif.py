"""HEIC and AVIF headers (ISO/IEC 14496-12 boxes, ISO/IEC 23008-12 items, AV1 image format)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from headshot.imaging.containers.header import Header
from headshot.imaging.containers.hevc import sps_size
from headshot.imaging.refusals import (
    MAX_ICC_BYTES,
    DecodeLimits,
    animated,
    corrupt,
    too_complex,
    truncated,
    unsupported,
)

_MAX_BOXES: Final = 4096
_MAX_META: Final = 8 * 2**20
_MAX_ITEMS: Final = 2048
_STILL_BRANDS: Final = frozenset({b"heic", b"heix", b"mif1", b"mif2", b"avif", b"heim", b"heis"})
_SEQUENCE_BRANDS: Final = frozenset({b"hevc", b"hevx", b"msf1", b"avis"})
_CODECS: Final[dict[bytes, Literal["heic", "avif"]]] = {b"hvc1": "heic", b"av01": "avif"}
_ORIENTATIONS: Final = {
    # (quarter turns anticlockwise, then mirrored: "" | "rows" top-bottom | "columns" left-right)
    (0, ""): 1,
    (1, ""): 8,
    (2, ""): 3,
    (3, ""): 6,
    (0, "columns"): 2,
    (1, "columns"): 7,
    (2, "columns"): 4,
    (3, "columns"): 5,
    (0, "rows"): 4,
    (1, "rows"): 5,
    (2, "rows"): 2,
    (3, "rows"): 7,
}


@dataclass
class _Box:
    kind: bytes
    body: bytes


@dataclass
class _Meta:
    primary: int | None = None
    items: dict[int, bytes] = field(default_factory=dict)
    properties: list[_Box] = field(default_factory=list)
    associations: dict[int, list[int]] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)

    def of(self, item: int) -> list[_Box]:
        """The properties of one item, in their order."""
        indices = self.associations.get(item, [])
        return [self.properties[i - 1] for i in indices if 1 <= i <= len(self.properties)]

    def size(self, item: int) -> tuple[int, int]:
        """Width and height from `ispe`."""
        for box in self.of(item):
            if box.kind == b"ispe" and len(box.body) >= 12:
                return int.from_bytes(box.body[4:8], "big"), int.from_bytes(box.body[8:12], "big")
        raise corrupt("an item has no size")


def is_heif(data: bytes) -> bool:
    """Whether the file type box names a HEIF or AVIF brand."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, end, 4))}
    return bool(brands & (_STILL_BRANDS | _SEQUENCE_BRANDS))


def read_heif(data: bytes, limits: DecodeLimits) -> Header:
    """Read the boxes around the primary item.

    Every picture size in the file (grid, tiles, thumbnails, alpha, and what the HEVC parameter
    sets themselves say) is held to the limits, and the tiles of a grid to its area, so that a few
    bytes cannot make a decoder allocate or decode more than the photo that is claimed.

    Raises:
        PhotoError: truncated, damaged, a sequence, over a limit, or another codec.
    """
    meta_body: bytes | None = None
    for box in _boxes(data, 0, len(data), top=True):
        kind, start, end = box
        if kind == b"moov":
            raise animated("An image sequence")
        if kind == b"meta" and meta_body is None:
            if end - start > _MAX_META:
                raise too_complex("megabytes of metadata")
            meta_body = data[start:end]
    if meta_body is None:
        major = data[8:12]
        raise animated("An image sequence") if major in _SEQUENCE_BRANDS else truncated()
    try:
        return _header(data, _parse_meta(meta_body), limits)
    except (IndexError, ValueError) as error:
        raise corrupt("its boxes contradict each other") from error


def _header(data: bytes, meta: _Meta, limits: DecodeLimits) -> Header:
    primary = meta.primary
    if primary is None or primary not in meta.items:
        raise corrupt("it has no primary picture")
    width, height = meta.size(primary)
    codec = _codec(meta, primary, width * height)
    for box in meta.properties:
        if box.kind == b"ispe" and len(box.body) >= 12:
            _check_large(box.body[4:12], limits)
        elif box.kind == b"hvcC":
            for size in sps_size(box.body):
                _check_large(b"".join(v.to_bytes(4, "big") for v in size), limits)
    limits.check_size(width, height)
    turns, mirror, depth = 0, "", 8
    icc: bytes | None = None
    cicp: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    for box in meta.of(primary):
        body = box.body
        if box.kind == b"irot" and body:
            turns = body[0] & 3
        elif box.kind == b"imir" and body:
            mirror = "columns" if body[0] & 1 else "rows"
        elif box.kind == b"pixi" and len(body) >= 6:
            depth = max(body[5 : 5 + body[4]], default=8)
        elif box.kind == b"colr" and body[:4] in (b"prof", b"rICC"):
            icc = body[4:]
        elif box.kind == b"colr" and body[:4] == b"nclx" and len(body) >= 10:
            cicp = int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big")
    if icc is not None and len(icc) > MAX_ICC_BYTES:
        icc, notes = None, ("ICC_IGNORED",)
    return Header(
        format=codec,
        width=width,
        height=height,
        data=data,
        orientation=_ORIENTATIONS[turns, mirror],
        bit_depth=depth,
        icc=icc,
        cicp=cicp,
        notes=notes,
    )


def _codec(meta: _Meta, primary: int, area: int) -> Literal["heic", "avif"]:
    """The codec of the primary item; for a grid, of its tiles, which must fit its area."""
    kind = meta.items[primary]
    if kind != b"grid":
        if kind not in _CODECS:
            raise unsupported(f"HEIF of item type {kind!r}")
        return _CODECS[kind]
    tiles = meta.parts.get(primary, [])
    kinds = {meta.items.get(tile, b"") for tile in tiles}
    if len(kinds) != 1 or not kinds <= _CODECS.keys():
        raise unsupported("This kind of HEIF grid")
    tile_area = sum(w * h for w, h in map(meta.size, tiles))
    # Tiles may stand over the right and lower edge by less than one tile each.
    if tile_area > 4 * area + 2**22:
        raise too_complex("tiles far larger than its picture")
    return _CODECS[kinds.pop()]


def _check_large(size: bytes, limits: DecodeLimits) -> None:
    width, height = int.from_bytes(size[:4], "big"), int.from_bytes(size[4:8], "big")
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        limits.check_size(width, height)


def _boxes(
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


def _parse_meta(body: bytes) -> _Meta:
    meta = _Meta()
    for kind, start, end in _boxes(body, 4, len(body)):
        inner = body[start:end]
        if kind == b"pitm":
            meta.primary = int.from_bytes(inner[4:8] if inner[0] else inner[4:6], "big")
        elif kind == b"iinf":
            _parse_items(inner, meta)
        elif kind == b"iref":
            _parse_references(inner, meta)
        elif kind == b"iprp":
            for sub, first, last in _boxes(inner, 0, len(inner)):
                if sub == b"ipco":
                    meta.properties = [
                        _Box(k, inner[s:e]) for k, s, e in _boxes(inner, first, last)
                    ]
                elif sub == b"ipma":
                    _parse_associations(inner[first:last], meta)
    return meta


def _parse_items(body: bytes, meta: _Meta) -> None:
    for kind, start, end in _boxes(body, 8 if body[0] else 6, len(body)):
        version = body[start]
        if kind != b"infe" or version < 2:
            continue
        width = 2 if version == 2 else 4
        item = int.from_bytes(body[start + 4 : start + 4 + width], "big")
        meta.items[item] = body[start + 6 + width : min(start + 10 + width, end)]
        if len(meta.items) > _MAX_ITEMS:
            raise too_complex("thousands of items")


def _parse_references(body: bytes, meta: _Meta) -> None:
    width = 4 if body[0] else 2
    for kind, start, _ in _boxes(body, 4, len(body)):
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


def _parse_associations(body: bytes, meta: _Meta) -> None:
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
