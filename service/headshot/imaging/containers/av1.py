"""Picture size from AV1 sequence headers (AV1 bitstream specification, section 5.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headshot.imaging.containers.bits import Bits

_SEQUENCE_HEADER: Final = 1
_CONFIG_HEAD: Final = 4
_MAX_UNITS: Final = 4096


def sequence_sizes(config: bytes, payload: bytes) -> Iterator[tuple[int, int]]:
    """(width, height) of each sequence header in a configuration record and in the item's data.

    A decoder allocates by the largest frame that these allow, whatever the container claims.

    Args:
        config: body of the `av1C` box.
        payload: the item's data, open bitstream units.

    Raises:
        ValueError: a unit or a header is damaged, or of a kind that stills have no use for.
    """
    for units in (config[_CONFIG_HEAD:], payload):
        yield from _sizes(units)


def _sizes(units: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    for _ in range(_MAX_UNITS):
        if position >= len(units):
            return
        head = units[position]
        position += 2 if head & 4 else 1
        length = len(units) - position
        if head & 2:
            length, position = _leb128(units, position)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _size(units[position : position + min(length, 256)])
        position += length
    raise ValueError("thousands of units")


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        if position + index >= len(data):
            break
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, position + index + 1
    raise ValueError("a length has no end")


def _size(header: bytes) -> tuple[int, int]:
    bits = Bits(header)
    bits.read(4)  # profile, still_picture
    if bits.read(1):  # reduced_still_picture_header
        bits.read(5)
    else:
        if bits.read(1):
            raise ValueError("timing of a video in a still")
        delays = bits.read(1)
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if delays and bits.read(1):
                bits.read(4)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1
