"""Picture size from HEVC sequence parameter sets (ITU-T H.265 section 7.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headshot.imaging.containers.bits import Bits

_SPS: Final = 33


def parameter_sizes(config: bytes, payload: bytes) -> Iterator[tuple[int, int]]:
    """(width, height) of each SPS in a decoder configuration record and in the item's own data.

    A decoder allocates by these figures, whatever the container claims.

    Args:
        config: body of the `hvcC` box.
        payload: the item's data: units, each after its length.

    Raises:
        ValueError: the record or a parameter set is damaged.
    """
    yield from _config_sizes(config)
    width = (config[21] & 3) + 1
    position = 0
    while position + width < len(payload):
        length = int.from_bytes(payload[position : position + width], "big")
        position += width
        if payload[position] >> 1 & 0x3F == _SPS:
            yield _size(payload[position : position + min(length, 1024)])
        position += length


def _config_sizes(config: bytes) -> Iterator[tuple[int, int]]:
    if len(config) < 23:
        raise ValueError("configuration record cut short")
    position = 23
    for _ in range(config[22]):
        if position + 3 > len(config):
            raise ValueError("configuration record cut short")
        kind = config[position] & 0x3F
        count = int.from_bytes(config[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            length = int.from_bytes(config[position : position + 2], "big")
            unit = config[position + 2 : position + 2 + length]
            position += 2 + length
            if position > len(config):
                raise ValueError("parameter set cut short")
            if kind == _SPS:
                yield _size(unit)


def _size(unit: bytes) -> tuple[int, int]:
    bits = Bits(unit[2:1024].replace(b"\0\0\3", b"\0\0"))  # without emulation prevention
    bits.read(4)
    sub_layers = bits.read(3)
    bits.read(1)
    bits.read(88)  # general profile, tier, constraint flags
    bits.read(8)  # general level
    if sub_layers:
        present = [(bits.read(1), bits.read(1)) for _ in range(8)][:sub_layers]
        for profile, level in present:
            bits.read(88 * profile + 8 * level)
    bits.exp_golomb()  # id
    if bits.exp_golomb() == 3:  # chroma format 4:4:4
        bits.read(1)
    return bits.exp_golomb(), bits.exp_golomb()
