"""What may not be in a log line, and what is written in its place.

Photos, crops, embeddings, tokens and callers' paths are refused here as a last line of defence:
code should not log them in the first place, and a test greps a full run's log for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import PurePath
from typing import Any, Final

MAX_TEXT: Final = 512
MAX_ITEMS: Final = 32
MAX_DEPTH: Final = 4
# A list of more numbers than this is taken for a vector or pixels; boxes and percentiles pass.
MAX_NUMBERS: Final = 8

_SECRET_KEYS: Final = re.compile(
    r"(?i)authorization|api[_-]?key|secret|password|bearer|cookie|private[_-]?key"
    r"|(^|[_-])token$|embedding|(^|[_-])pixels?$|(^|[_-])photo([_-]bytes)?$|(^|[_-])image$"
    r"|filename|file_name"
)
# POSIX and Windows paths. The look-behind lets URLs, ratios and gRPC method names pass.
_PATH: Final = re.compile(
    r"(?<![\w/:.])~?/(?:[^\s/'\"]+/)*[^\s/'\":,;)]+|(?<!\w)[A-Za-z]:\\[^\s'\"]+"
)
_BEARER: Final = re.compile(r"(?i)\bbearer\s+\S+|\bhsk_[A-Za-z0-9_-]+")
# Long unbroken runs of base64, hex or escaped bytes: photo data or a sealed template.
_BLOB: Final = re.compile(r"[A-Za-z0-9+/_=-]{65,}|(?:\\x[0-9a-fA-F]{2}){8,}")
# Keys whose value legitimately has slashes, and which never come from a caller.
_PATH_KEYS: Final = frozenset({"event", "level", "timestamp", "logger", "method"})


def redact_event(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what may not be logged; a structlog processor, run right before rendering."""
    for key in list(event):
        event[key] = _clean(key, event[key], 0)
    return event


def _clean(key: str, value: object, depth: int) -> object:
    if _SECRET_KEYS.search(key) and not isinstance(value, bool | int | float | None):
        return "[redacted]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return clean_text(value, paths=key in _PATH_KEYS and key != "event")
    return _clean_object(key, value, depth)


def _clean_object(key: str, value: object, depth: int) -> object:
    if isinstance(value, bytes | bytearray | memoryview | PurePath):
        return f"[redacted: {type(value).__name__}]"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _clean_array(value)
    if depth >= MAX_DEPTH:
        return "[redacted: too deep]"
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {str(name): _clean(str(name), item, depth + 1) for name, item in items}
    if isinstance(value, Sequence | set | frozenset):
        return _clean_sequence(key, list(value), depth)
    return f"[{type(value).__name__}]"


def _clean_array(value: Any) -> object:
    """Let a numpy scalar pass as a number, and only the shape of an array."""
    if value.shape == () and hasattr(value, "item"):
        number = value.item()
        return number if isinstance(number, bool | int | float) else "[redacted: scalar]"
    return f"[redacted: array {tuple(value.shape)}]"


def _clean_sequence(key: str, values: list[object], depth: int) -> object:
    numbers = sum(isinstance(item, int | float) for item in values)
    if numbers > MAX_NUMBERS:
        return f"[redacted: {numbers} numbers]"
    return [_clean(key, item, depth + 1) for item in values[:MAX_ITEMS]]


def clean_text(text: str, *, paths: bool = False) -> str:
    """Return `text` without paths (unless `paths`), bearer tokens and blobs, shortened.

    Args:
        text: what someone wants to log.
        paths: keep what looks like a path, for keys that hold gRPC methods.
    """
    # Cut first, so that a hostile megabyte costs nothing; then once more, markers add length.
    cut = text[: 4 * MAX_TEXT]
    cut = _BEARER.sub("[redacted: token]", cut)
    cut = _BLOB.sub("[redacted: blob]", cut)
    if not paths:
        cut = _PATH.sub("[redacted: path]", cut)
    cut = "".join(char if char.isprintable() else " " for char in cut)
    return cut if len(cut) <= MAX_TEXT else cut[:MAX_TEXT] + "..."
