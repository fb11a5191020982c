"""File names from templates, safe on every file system and in every header."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Final

from headshot.errors import InvalidRequestError

FIELDS: Final = ("request_id", "style", "name", "width", "height", "ext")
_MAX_VALUE, _MAX_NAME, _MAX_EXTENSION = 48, 128, 16
# For the dot, an underscore before a reserved name, and a number behind one that is taken.
_SPARE: Final = 6
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def check_template(template: str) -> None:
    """Refuse a template that could not give a safe name.

    Raises:
        InvalidRequestError: INVALID_FILE_NAME, with what is wrong.
    """
    if not template or len(template) > _MAX_NAME:
        raise _invalid(f"A file name template has 1 to {_MAX_NAME} characters.")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise _invalid(f"The file name template is not well formed: {error}.") from None
    for literal, name, form, conversion in parts:
        if _UNSAFE.search(literal):
            raise _invalid("File names hold letters, digits, dots, hyphens and underscores only.")
        if name is not None and (name not in FIELDS or form or conversion):
            raise _invalid(f"Field {{{name}}} is not known; use {', '.join(FIELDS)}.")


def file_name(template: str, fields: Mapping[str, str]) -> str:
    """Fill in a template.

    Args:
        template: plain text with {request_id}, {style}, {name}, {width}, {height}, {ext}.
        fields: their values; any text. Accents are dropped, other characters become hyphens; a
            value that would vanish (another script) becomes 8 hexadecimal digits of its hash, so
            that different values stay different. Missing fields are empty.

    Returns:
        a name of letters, digits, dots, hyphens and underscores, at most 128 characters, that is
        not hidden, not a path and not reserved on any system.

    Raises:
        InvalidRequestError: INVALID_FILE_NAME, see `check_template`.
    """
    check_template(template)
    values = {name: _safe(fields.get(name, "")) for name in FIELDS}
    filled = "".join(
        literal + (values[name] if name else "")
        for literal, name, _, _ in Formatter().parse(template)
    )
    stem, dot, extension = re.sub(r"\.{2,}", ".", filled).rpartition(".")
    extension = extension.strip("-_")[:_MAX_EXTENSION]
    if not (dot and extension):
        stem, dot, extension = stem or extension, "", ""
    stem = stem[: _MAX_NAME - _SPARE - len(extension)].strip(".-_") or "headshot"
    result = stem + dot + extension
    return f"_{result}" if _RESERVED.match(result) else result


def distinct(names: Iterable[str]) -> list[str]:
    """The names in order, later ones numbered ("a-2.jpg") where they would collide (no case)."""
    seen: set[str] = set()
    result = []
    for name in names:
        stem, dot, extension = name.rpartition(".")
        if not dot:
            stem, extension = name, ""
        unique, number = name, 2
        while unique.lower() in seen:
            unique, number = f"{stem}-{number}{dot}{extension}", number + 1
        seen.add(unique.lower())
        result.append(unique)
    return result


def _safe(value: str) -> str:
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    cleaned = _UNSAFE.sub("-", plain).strip(".-_")[:_MAX_VALUE]
    if value and not cleaned:
        return hashlib.sha256(value.encode()).hexdigest()[:8]
    return cleaned


def _invalid(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, reason="INVALID_FILE_NAME")
