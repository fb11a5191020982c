"""Checks a request against the field rules written in proto/headshot/v1 (`headshot.v1.rules`)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from headshot.errors import FieldViolation, InvalidRequestError
from headshot.v1 import rules_pb2

_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
    FieldDescriptor.CPPTYPE_FLOAT,
    FieldDescriptor.CPPTYPE_DOUBLE,
}


@lru_cache(maxsize=256)
def _rules(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, Any], ...]:
    """Return the fields of a message with their rules (None where there are none)."""
    found = []
    for field in descriptor.fields:
        options = field.GetOptions()
        extension: Any = rules_pb2.rules
        has = options.HasExtension(extension)
        found.append((field, options.Extensions[extension] if has else None))
    return tuple(found)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_set(message: Message, field: FieldDescriptor) -> bool:
    if field.is_repeated:
        return len(getattr(message, field.name)) > 0
    if field.has_presence:
        return message.HasField(field.name)
    return True


def _scalar(field: FieldDescriptor, rules: Any, value: Any) -> Iterator[str]:
    """Yield what is wrong with one value."""
    if isinstance(value, str | bytes):
        unit = "characters" if isinstance(value, str) else "bytes"
        if len(value) < rules.min_len:
            yield f"has {len(value)} {unit}; at least {rules.min_len} are needed"
        if rules.HasField("max_len") and len(value) > rules.max_len:
            yield f"has {len(value)} {unit}; at most {rules.max_len} are allowed"
        if rules.pattern and isinstance(value, str) and not re.fullmatch(rules.pattern, value):
            yield f"must match {rules.pattern}"
        return
    if rules.always_true and value is not True:
        yield "may only be true; leave it out otherwise"
    if field.enum_type is not None:
        if rules.defined and value not in field.enum_type.values_by_number:
            known = ", ".join(name.name for name in field.enum_type.values)
            yield f"is {value}; one of {known} is expected"
        return
    if field.cpp_type in _NUMBERS:
        yield from _number(rules, value)


def _number(rules: Any, value: float) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield "must be a finite number"
        return
    if rules.HasField("gte") and value < rules.gte:
        yield f"is {_shown(value)}; at least {_shown(rules.gte)} is needed"
    if rules.HasField("gt") and value <= rules.gt:
        yield f"is {_shown(value)}; it must be above {_shown(rules.gt)}"
    if rules.HasField("lte") and value > rules.lte:
        yield f"is {_shown(value)}; at most {_shown(rules.lte)} is allowed"


def _shown(value: float) -> str:
    """Return a number as people write it: whole ones with all their digits."""
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < 1e15)
    return str(int(value)) if whole else f"{value:g}"


def _violations(message: Message, prefix: str) -> Iterator[FieldViolation]:
    for field, rules in _rules(message.DESCRIPTOR):
        path = f"{prefix}{field.name}"
        if not _is_set(message, field):
            if rules is not None and (rules.required or rules.min_items):
                need = f"at least {rules.min_items} needed" if rules.min_items else "is required"
                yield FieldViolation(path, need)
            continue
        if _is_map(field):
            continue
        value = getattr(message, field.name)
        if rules is not None and rules.HasField("max_items") and len(value) > rules.max_items:
            yield FieldViolation(path, f"has {len(value)}; at most {rules.max_items} allowed")
            continue
        # Only now: a list of millions is refused by its length and never walked.
        items = enumerate(value) if field.is_repeated else iter([(None, value)])
        for index, item in items:
            item_path = path if index is None else f"{path}[{index}]"
            if isinstance(item, Message):
                yield from _violations(item, f"{item_path}.")
            elif rules is not None:
                for text in _scalar(field, rules, item):
                    yield FieldViolation(item_path, text)


def validate(message: Message) -> None:
    """Raise InvalidRequestError that names every field that breaks its rules.

    Args:
        message: a request of headshot.v1.

    Raises:
        InvalidRequestError: with one violation for each bad field.
    """
    found = tuple(_violations(message, ""))
    if found:
        fields = ", ".join(violation.field for violation in found[:5])
        raise InvalidRequestError(
            f"{len(found)} field(s) of the request are not as documented: {fields}",
            violations=found,
        )
