"""HEIC and AVIF headers (ISO/IEC 14496-12 boxes, ISO/IEC 23008-12 items, AV1 image format)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

from headshot.imaging.containers.av1 import sequence_sizes
from headshot.imaging.containers.boxes import Meta, boxes, parse_meta
from headshot.imaging.containers.header import Header
from headshot.imaging.containers.hevc import parameter_sizes
from headshot.imaging.refusals import (
    MAX_ICC_BYTES,
    DecodeLimits,
    animated,
    corrupt,
    too_complex,
    truncated,
    unsupported,
)

_MAX_META: Final = 8 * 2**20
_STILL_BRANDS: Final = frozenset({b"heic", b"heix", b"mif1", b"mif2", b"avif", b"heim", b"heis"})
_SEQUENCE_BRANDS: Final = frozenset({b"hevc", b"hevx", b"msf1", b"avis"})
_CODECS: Final[dict[bytes, Literal["heic", "avif"]]] = {b"hvc1": "heic", b"av01": "avif"}
_STREAMS: Final[dict[bytes, Callable[[bytes, bytes], Iterable[tuple[int, int]]]]] = {
    b"hvcC": parameter_sizes,
    b"av1C": sequence_sizes,
}
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
    for box in boxes(data, 0, len(data), top=True):
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
        return _header(data, parse_meta(meta_body), limits)
    except (IndexError, ValueError) as error:
        raise corrupt("its boxes contradict each other") from error


def _header(data: bytes, meta: Meta, limits: DecodeLimits) -> Header:
    primary = meta.primary
    if primary is None or primary not in meta.items:
        raise corrupt("it has no primary picture")
    width, height = meta.size(primary)
    codec = _codec(meta, primary, width * height)
    for box in meta.properties:
        if box.kind == b"ispe" and len(box.body) >= 12:
            sides = box.body[4:8], box.body[8:12]
            size = int.from_bytes(sides[0], "big"), int.from_bytes(sides[1], "big")
            _check_large([size], limits)
    limits.check_size(width, height)
    _check_streams(data, meta, limits)
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


def _codec(meta: Meta, primary: int, area: int) -> Literal["heic", "avif"]:
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


def _check_streams(data: bytes, meta: Meta, limits: DecodeLimits) -> None:
    """Hold what the coded streams say of their own size to the limits."""
    total = 0
    for item, kind in meta.items.items():
        if kind not in _CODECS:
            continue
        payload = meta.payload(item, data)
        total += len(payload)
        if total > 2 * len(data):
            raise too_complex("items that share their data")
        for box in meta.of(item):
            if box.kind in _STREAMS:
                _check_large(_STREAMS[box.kind](box.body, payload), limits)


def _check_large(sizes: Iterable[tuple[int, int]], limits: DecodeLimits) -> None:
    for width, height in sizes:
        if max(width, height) > limits.max_side or width * height > limits.max_pixels:
            limits.check_size(width, height)
