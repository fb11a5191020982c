"""Counts the fields of a message in its bytes, before anything is built of them.

Parsed, a message takes up to 36 times its bytes: an empty element of a list is two bytes on the
wire and an object in memory. The rules on a list's length can only be checked on what was parsed.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor

# Wire types; groups (3 and 4) are in no message of proto3.
_VARINT: Final = 0
_SIZES: Final = {1: 8, 5: 4}
_BYTES: Final = 2


def count(data: bytes, descriptor: Descriptor, most: int) -> int:
    """Return how many fields a message has, with those inside it, each element of a list as one.

    Args:
        data: the message as it is on the wire.
        descriptor: its type.
        most: counting ends above it: a walk takes microseconds a field, whatever `data` holds.

    Returns:
        the number, or `most + 1` for any that is larger.

    Raises:
        ValueError: the bytes are no message of proto3.
    """
    found = 0
    ends = [len(data)]
    types = [descriptor]
    at = 0
    while ends:
        if at == ends[-1]:
            ends.pop()
            types.pop()
            continue
        found += 1
        if found > most:
            break
        key, at = _varint(data, at)
        at, inner = _value(data, at, key, types[-1])
        if inner is not None:
            ends.append(inner[0])
            types.append(inner[1])
        if at > ends[-1] or (len(ends) > 1 and ends[-1] > ends[-2]):
            raise ValueError("a field ends behind its message")
    return found


def _value(
    data: bytes, at: int, key: int, within: Descriptor
) -> tuple[int, tuple[int, Descriptor] | None]:
    """Return where to read on, and of a message its end and type."""
    wire = key & 7
    if wire == _VARINT:
        return _varint(data, at)[1], None
    if wire in _SIZES:
        return at + _SIZES[wire], None
    if wire != _BYTES:
        raise ValueError("no wire type of proto3")
    size, at = _varint(data, at)
    field = within.fields_by_number.get(key >> 3)
    if field is not None and field.message_type is not None:
        return at, (at + size, field.message_type)
    return at + size, None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")
