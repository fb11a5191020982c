"""Bit fields of coded headers."""

from __future__ import annotations


class Bits:
    """The first 256 bytes of a coded header as bits."""

    def __init__(self, payload: bytes) -> None:
        head = payload[:256]
        self._value = int.from_bytes(head, "big")
        self._left = 8 * len(head)

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
