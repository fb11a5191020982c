"""The audit log: who asked for what, when, with which consent, and how it ended.

One JSON object a line, appended with O_APPEND under a file lock, so that several workers can share
a file. Each record holds the hash of the one before it: a changed, removed or inserted line shows
(`verify`). With a key the hash is an HMAC, which somebody without the key cannot recompute. A cut
tail does not show by itself: compare with a copy on another machine. Of a record that cannot be
written whole nothing stays.

Records never hold pixels, vectors, file names or secrets: only the fields of `AuditRecord`. The
consent reference is kept as the caller gave it, since it must be found again in the caller's files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from headshot.telemetry.metrics import Metrics
from headshot.telemetry.redaction import clean_text

GENESIS: Final = "0" * 64
_TAIL_BYTES: Final = 8192
_MAX_FIELD: Final = 200
_VERBATIM: Final = frozenset({"consent_reference"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Fsync(Enum):
    """When records reach the disk for sure."""

    ALWAYS = "always"
    INTERVAL = "interval"
    NEVER = "never"


@dataclass(frozen=True)
class AuditRecord:
    """What is kept of one request.

    Attributes:
        request_id: joins the record with the access line.
        tenant: whose credential it was.
        credential: the credential's id, never the secret.
        method: full gRPC method.
        outcome: OK or the error's reason.
        consent_reference: the caller's reference to the person's consent; empty when not given.
        style: style guide id; empty where none applies.
        style_version: version of that style guide.
        photos: photos received.
        headshots: headshots returned, or candidates of Denoise.
        recogniser: recogniser that compared, verified or made a template.
        unverified: True when an unverified result was let out on the caller's wish; what Denoise
            returns never is verified.
    """

    request_id: str
    tenant: str
    credential: str
    method: str
    outcome: str
    consent_reference: str = ""
    style: str = ""
    style_version: str = ""
    photos: int = 0
    headshots: int = 0
    recogniser: str = ""
    unverified: bool = False


@dataclass(frozen=True)
class AuditVerdict:
    """What `verify` found.

    Attributes:
        ok: True when every record follows from the one before it.
        records: intact records, counted from the first.
        bad_line: number of the first line that does not fit, from 1; 0 when all do.
        head: hash of the last intact record; what the first record of the next file follows.
        reason: why the bad line does not fit; empty when all do.
        first: sequence number of the first whole record; 0 where there is none.
        follows: hash that this record says it follows; empty where there is none.
    """

    ok: bool
    records: int
    bad_line: int
    head: str
    reason: str
    first: int = 0
    follows: str = ""


def key_from_environment() -> bytes | None:
    """Return the HMAC key of HEADSHOT_AUDIT_KEY, None where there is none.

    Raises:
        ValueError: it is not hexadecimal.
    """
    text = os.environ.get("HEADSHOT_AUDIT_KEY", "")
    try:
        return bytes.fromhex(text) or None
    except ValueError:
        raise ValueError("HEADSHOT_AUDIT_KEY must be hexadecimal, 32 digits or more") from None


class AuditLog:
    """Appends records to one file.

    Args:
        path: the file; made with mode 0600. Its folder must exist.
        fsync: ALWAYS before `append` returns, INTERVAL at most every `interval_s`, or NEVER.
        key: HMAC key, 16 bytes or more; None chains with plain SHA-256.
        interval_s: for Fsync.INTERVAL.
        clock: Unix seconds.
        metrics: counts the records that were and could not be written; None for nowhere.
    """

    def __init__(
        self,
        path: Path,
        *,
        fsync: Fsync = Fsync.ALWAYS,
        key: bytes | None = None,
        interval_s: float = 1.0,
        clock: Callable[[], float] = time.time,
        metrics: Metrics | None = None,
    ) -> None:
        if key is not None and len(key) < 16:
            raise ValueError("the audit key must be 16 bytes or more")
        self._path = path
        self._fsync = fsync
        self._key = key
        self._interval_s = interval_s
        self._clock = clock
        self._metrics = metrics
        self._synced_at = clock()
        self._lock = threading.Lock()
        self._file = -1
        self._size = -1
        self._seq = 0
        self._head = GENESIS
        self._open()

    def append(self, record: AuditRecord) -> tuple[int, str]:
        """Write one record and return its sequence number and hash. Blocks: use a thread.

        Raises:
            OSError: the record could not be written; a policy that requires audit must then
                refuse the request.
        """
        try:
            written = self._append(record)
        except OSError:
            self._count(ok=False)
            raise
        self._count(ok=True)
        return written

    def _count(self, *, ok: bool) -> None:
        if self._metrics is not None:
            self._metrics.audited(ok=ok)

    def _append(self, record: AuditRecord) -> tuple[int, str]:
        with self._lock:
            self._take_file()
            try:
                line, digest = self._line(record)
                self._write(line)
                self._seq += 1
                self._head = digest
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            return self._seq, digest

    def _take_file(self) -> None:
        """Lock the file that is at the path now, and know the chain's head in it.

        After a rotation that is another file than last time. The head of the old one is learnt
        first, under its lock: whoever gets that lock later sees the rotation and does not write.
        """
        if self._file < 0:
            raise OSError("the audit log is closed")
        while True:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._catch_up()
                if not self._moved():
                    return
                # The new one first: where it cannot be opened, the old descriptor stays valid.
                old = self._file
                self._open()
            except BaseException:
                fcntl.flock(self._file, fcntl.LOCK_UN)
                raise
            os.close(old)  # which unlocks it

    def _write(self, line: bytes) -> None:
        """Append a line, or nothing: half of one (a full disk) would end what can be verified."""
        try:
            _write_all(self._file, line)
            self._sync()
        except OSError:
            before, self._size = self._size, -1
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Flush and close the file."""
        with self._lock:
            if self._file >= 0:
                os.fsync(self._file)
                os.close(self._file)
                self._file = -1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._size = -1

    def _moved(self) -> bool:
        """Tell whether log rotation has put another file, or none, at the path."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._file))

    def _catch_up(self) -> None:
        """Learn the chain's head when another worker has written since."""
        size = os.fstat(self._file).st_size
        if size == self._size:
            return
        if size > 0:
            tail = os.pread(self._file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
            if not tail.endswith(b"\n"):
                # A crash left half a line; end it, so that the next record stands alone.
                _write_all(self._file, b"\n")
                size += 1
            for raw in reversed(tail.splitlines()):
                found = _parse(raw)
                if found is not None:
                    self._seq, self._head = int(found["seq"]), str(found["hash"])
                    break
        self._size = size

    def _line(self, record: AuditRecord) -> tuple[bytes, str]:
        fields: dict[str, Any] = {
            "seq": self._seq + 1,
            "time": round(self._clock(), 3),
            **{name: _field(name, value) for name, value in asdict(record).items()},
            "prev": self._head,
        }
        digest = chain_hash(fields, self._key)
        fields["hash"] = digest
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode() + b"\n", digest

    def _sync(self) -> None:
        now = self._clock()
        due = self._fsync is Fsync.INTERVAL and now - self._synced_at >= self._interval_s
        if self._fsync is Fsync.ALWAYS or due:
            os.fsync(self._file)
            self._synced_at = now


def chain_hash(fields: dict[str, Any], key: bytes | None) -> str:
    """Return the hash of a record without its own `hash`, as 64 hex digits."""
    body = {name: value for name, value in fields.items() if name != "hash"}
    text = json.dumps(body, separators=(",", ":"), sort_keys=True, ensure_ascii=True).encode()
    if key is None:
        return hashlib.sha256(text).hexdigest()
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def verify(
    lines: Iterable[bytes], key: bytes | None = None, *, start: str | None = GENESIS
) -> AuditVerdict:
    """Check a log's chain.

    Args:
        lines: the file's lines; an opened file will do.
        key: the HMAC key the log was written with.
        start: hash the first record must follow; None accepts any (a rotated file).
    """
    head, count, first, follows = start, 0, 0, ""
    bad_line, reason = 0, ""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        found = _parse(raw)
        if found is None:
            bad_line, reason = number, "not a whole record"
            break
        if not first:
            first, follows = int(found["seq"]), str(found["prev"])
        reason = _misfit(found, head, key)
        if reason:
            bad_line = number
            break
        head = str(found["hash"])
        count += 1
    return AuditVerdict(not reason, count, bad_line, head or GENESIS, reason, first, follows)


def _misfit(record: dict[str, Any], head: str | None, key: bytes | None) -> str:
    """Return why a record does not follow from `head`; empty when it does."""
    if head is not None and record["prev"] != head:
        return "records before it are missing"
    if record["hash"] != chain_hash(record, key):
        return "changed, or another key"
    return ""


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(found, dict) or not {"seq", "prev", "hash"} <= found.keys():
        return None
    return found if isinstance(found["seq"], int) else None


def _field(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    text = _CONTROL.sub(" ", value)
    return (text if name in _VERBATIM else clean_text(text, paths=True))[:_MAX_FIELD]


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
