"""TIFF headers (TIFF 6.0; Adobe TIFF technical notes 1 and 2)."""

from __future__ import annotations

import struct
from typing import Final

from headshot.imaging.containers.exif import (
    ORIENTATION,
    Directory,
    DirectoryError,
    byte_order,
    read_directory,
)
from headshot.imaging.containers.header import Header
from headshot.imaging.refusals import (
    MAX_ICC_BYTES,
    DecodeLimits,
    animated,
    corrupt,
    truncated,
    unsupported,
)

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SAMPLE_FORMAT, _ICC = 339, 34675

_PIXELS: Final = frozenset(
    {
        *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _ROWS),
        *(_STRIP_BYTES, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES),
        _SAMPLE_FORMAT,
        *(266, 317, 320, 338, 347, 530, 531, 532),  # fill order, predictor, palette, extra
        # samples, JPEG tables, YCbCr subsampling, positioning, reference black and white
    }
)
"""The tags that make pixels; the decoder sees no other."""
_COMPRESSIONS: Final = frozenset({1, 5, 7, 8, 32773, 32946})
"""None, LZW, JPEG, Deflate, PackBits, Deflate (old number)."""
_PHOTOMETRICS: Final = frozenset({0, 1, 2, 3, 5, 6})
_CMYK: Final = 5
_WHITE_IS_ZERO: Final = 0
_MAX_TILE_PIXELS: Final = 2**22


def read_tiff(data: bytes, limits: DecodeLimits) -> Header:
    """Read the first directory and check that there is no second.

    The decoder gets the same file with a new directory that holds only the tags that make pixels,
    so that private tags, absurd counts and sub-directories never reach a library.

    Raises:
        PhotoError: truncated, damaged, of several pages, over a limit, or of a kind that photo
            software does not write (BigTIFF, fax, floating point).
    """
    if len(data) < 8:
        raise truncated()
    order = byte_order(data)
    if order is None:
        raise unsupported("BigTIFF")
    try:
        return _read(data, order, limits)
    except DirectoryError as error:
        if "outside of" in str(error) or "cut short" in str(error):
            raise truncated(str(error)) from None
        raise corrupt(str(error)) from None


def _read(data: bytes, order: str, limits: DecodeLimits) -> Header:
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    directory = read_directory(data, offset, order, _PIXELS | {ORIENTATION, _ICC})
    if directory.next_offset:
        raise animated("A TIFF of several pages")
    width, height = directory.number(_WIDTH), directory.number(_HEIGHT)
    limits.check_size(width, height)
    samples = directory.number(_SAMPLES, 1)
    bits = directory.numbers(_BITS, 5) or (1,)
    formats = directory.numbers(_SAMPLE_FORMAT, 5) or (1,)
    photometric = directory.number(_PHOTOMETRIC)
    compression = directory.number(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise unsupported(f"TIFF of compression {compression}")
    if photometric not in _PHOTOMETRICS or not 1 <= samples <= 5:
        raise unsupported(f"TIFF of colour kind {photometric} with {samples} samples")
    if len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16) or set(formats) != {1}:
        raise unsupported("TIFF of such samples")
    _check_extents(directory, (width, height), samples, bits[0] if compression == 1 else 0, data)
    orientation = directory.number(ORIENTATION, 1)
    icc = directory.entries.get(_ICC)
    too_large = icc is not None and len(icc.payload) > MAX_ICC_BYTES
    return Header(
        format="tiff",
        width=width,
        height=height,
        data=_cleaned(data, directory),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        bit_depth=bits[0],
        icc=icc.payload if icc and not too_large else None,
        cmyk=photometric == _CMYK,
        white_is_zero=photometric == _WHITE_IS_ZERO,
        notes=("ICC_IGNORED",) if too_large else (),
    )


def _check_extents(
    directory: Directory, size: tuple[int, int], samples: int, raw_bits: int, data: bytes
) -> None:
    """Every strip or tile lies in the file, and there are exactly as many as the picture needs.

    Args:
        directory: the file's only one.
        size: (width, height).
        samples: samples for each pixel.
        raw_bits: bits per sample where the data are not compressed, else 0.
        data: the file.
    """
    width, height = size
    planes = samples if directory.number(_PLANAR, 1) == 2 else 1
    if _TILE_OFFSETS in directory.entries:
        across, down = directory.number(_TILE_WIDTH), directory.number(_TILE_HEIGHT)
        if not (across and down) or across * down > _MAX_TILE_PIXELS:
            raise DirectoryError(f"tiles of {across}x{down}")
        wanted = -(-width // across) * -(-height // down) * planes
        tags = (_TILE_OFFSETS, _TILE_BYTES)
    else:
        rows = min(directory.number(_ROWS, height), height)
        if not rows:
            raise DirectoryError("strips without rows")
        wanted = -(-height // rows) * planes
        tags = (_STRIP_OFFSETS, _STRIP_BYTES)
    offsets, counts = (directory.numbers(tag, wanted) for tag in tags)
    if len(offsets) != wanted or len(counts) != wanted:
        raise DirectoryError(f"{len(offsets)} strips, {wanted} wanted")
    if any(start + count > len(data) for start, count in zip(offsets, counts, strict=True)):
        raise truncated("a strip lies outside of the file")
    if raw_bits and sum(counts) < height * ((width * samples * raw_bits + 7) // 8):
        raise truncated("its strips are too short")


def _cleaned(data: bytes, directory: Directory) -> bytes:
    """The file with a directory of nothing but pixel tags at its end."""
    order = directory.order
    entries = sorted((tag, e) for tag, e in directory.entries.items() if tag in _PIXELS)
    start = len(data) + (len(data) & 1)
    overflow = start + 2 + 12 * len(entries) + 4
    table, payloads = bytearray(struct.pack(f"{order}H", len(entries))), bytearray()
    for tag, entry in entries:
        table += struct.pack(f"{order}HHI", tag, entry.kind, entry.count)
        if len(entry.payload) <= 4:
            table += entry.payload.ljust(4, b"\0")
        else:
            table += struct.pack(f"{order}I", overflow + len(payloads))
            payloads += entry.payload + b"\0" * (len(entry.payload) & 1)
    head = data[:4] + struct.pack(f"{order}I", start)
    return b"".join(
        (head, data[8:], b"\0" * (start - len(data)), table, struct.pack("I", 0), payloads)
    )
