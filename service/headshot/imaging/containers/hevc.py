"""Picture size from HEVC sequence parameter sets (ITU-T H.265 section 7.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterator

_SPS = 33


def sps_size(config: bytes) -> Iterator[tuple[int, int]]:
    """(width, height) of each SPS in an HEVC decoder configuration record (`hvcC` body).

    A decoder allocates by these figures, whatever the container claims.

    Raises:
        ValueError: the record or a parameter set is damaged.
    """
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
    bits = _Bits(unit[2:])  # after the two-byte NAL header
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


class _Bits:
    """Bits of a NAL unit without its emulation prevention bytes; only the head is needed."""

    def __init__(self, payload: bytes) -> None:
        clean = payload[:256].replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(clean, "big")
        self._left = 8 * len(clean)

    def read(self, count: int) -> int:
        """The next bits as an unsigned number."""
        if count > self._left:
            raise ValueError("parameter set cut short")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def exp_golomb(self) -> int:
        """An unsigned Exp-Golomb code, ue(v)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 31:
                raise ValueError("a number has too many bits")
        return (1 << zeros) - 1 + self.read(zeros)
