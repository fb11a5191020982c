"""Pulling checkpoints: resume, progress, hash check, mirror, offline folder.

A file appears under its final name only after its sha256 matched; what came so far waits in a
`.part` file and is continued with an HTTP range request.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from headshot.models.licences import LicenceMode, check_checkpoint, check_content
from headshot.models.manifest import Checkpoint, Manifest

_CHUNK = 1 << 20
# A TLS connection that breaks while it is read is none of the others.
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)
_LONGEST_PAUSE_S = 30.0

Progress = Callable[[Checkpoint, int, int | None], None]
"""Called with (checkpoint, bytes so far, total bytes or None)."""


class PullError(Exception):
    """A checkpoint could not be had, or is not the file that the manifest pins."""


class State(StrEnum):
    """What lies in the checkpoint folder."""

    MISSING = "missing"
    PARTIAL = "partial"
    PRESENT = "present"
    WRONG = "wrong"


@dataclass(frozen=True)
class PullOptions:
    """How to pull.

    Attributes:
        mirror: base URL that replaces scheme and host of every source; the path stays, so that a
            plain reverse proxy or a directory copy serves as a mirror.
        offline: folder to copy from instead of any network; files lie there under the manifest's
            `path` or under their bare file name.
        timeout_s: seconds without a byte before the connection counts as dead.
        attempts: connections in a row that may fail without bringing a byte.
        pause_s: seconds before the first of them is made again; twice as long each time, or what
            the source asks for (Retry-After), at most 30.

    """

    mirror: str | None = None
    offline: Path | None = None
    timeout_s: float = 30.0
    attempts: int = 4
    pause_s: float = 1.0


def sha256_of(path: Path) -> str:
    """Lower-case hex sha256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def state_of(checkpoint: Checkpoint, folder: Path, *, check_hash: bool = False) -> State:
    """Tell what the folder holds for a checkpoint; the hash is read only when asked for."""
    target = folder / checkpoint.path
    if not target.is_file():
        return State.PARTIAL if _part(target).is_file() else State.MISSING
    if checkpoint.size is not None and target.stat().st_size != checkpoint.size:
        return State.WRONG
    if check_hash and sha256_of(target) != checkpoint.sha256:
        return State.WRONG
    return State.PRESENT


def source_url(checkpoint: Checkpoint, mirror: str | None) -> str:
    """Return the URL to fetch, through the mirror where there is one."""
    if mirror is None:
        return checkpoint.url
    source = urllib.parse.urlsplit(checkpoint.url)
    base = urllib.parse.urlsplit(mirror)
    path = base.path.rstrip("/") + source.path
    return urllib.parse.urlunsplit((base.scheme, base.netloc, path, source.query, ""))


def pull(
    checkpoint: Checkpoint,
    folder: Path,
    manifest: Manifest,
    *,
    mode: LicenceMode = LicenceMode.COMMERCIAL,
    options: PullOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Bring one checkpoint into the folder, verified.

    Args:
        checkpoint: what to pull.
        folder: the checkpoint folder; sub-folders are made as needed.
        manifest: for the licence check by content.
        mode: licence mode; non-commercial files are refused in commercial mode.
        options: where from and how patiently.
        progress: called about once a MiB.

    Returns:
        The file's path, its sha256 checked.

    Raises:
        LicenceError: the licence mode does not allow the file.
        PullError: not found, connection lost for good, another content than pinned, or the file
            cannot be read or written here.

    """
    options = options or PullOptions()
    check_checkpoint(checkpoint, mode)
    check_content(checkpoint.sha256, mode, manifest)
    try:
        return _pull(checkpoint, folder / checkpoint.path, folder, options, progress)
    except OSError as error:
        raise PullError(f"{checkpoint.name}: {error.strerror or error}") from error


def _pull(
    checkpoint: Checkpoint,
    target: Path,
    folder: Path,
    options: PullOptions,
    progress: Progress | None,
) -> Path:
    if state_of(checkpoint, folder, check_hash=True) is State.PRESENT:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part(target)
    if options.offline is not None:
        _copy_offline(checkpoint, options.offline, part)
    else:
        _download(checkpoint, part, options, progress)
    found = sha256_of(part)
    if found != checkpoint.sha256:
        part.unlink()
        raise PullError(
            f"{checkpoint.name}: sha256 is {found}, pinned is {checkpoint.sha256}; "
            "the file was thrown away"
        )
    part.replace(target)
    return target


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _copy_offline(checkpoint: Checkpoint, folder: Path, part: Path) -> None:
    candidates = (folder / checkpoint.path, folder / Path(checkpoint.path).name)
    for candidate in candidates:
        if candidate.is_file():
            shutil.copyfile(candidate, part)
            return
    raise PullError(
        f"{checkpoint.name}: not in the offline folder (looked for {checkpoint.path} and "
        f"{Path(checkpoint.path).name})"
    )


def _download(
    checkpoint: Checkpoint, part: Path, options: PullOptions, progress: Progress | None
) -> None:
    url = source_url(checkpoint, options.mirror)
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise PullError(f"{checkpoint.name}: only http and https sources are fetched")
    failures = 0
    while True:
        before = _size(part)
        try:
            _download_once(checkpoint, url, part, options.timeout_s, progress)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                # What lies here is as long as the source or longer: the hash check decides.
                return
            # Client errors do not heal by asking again; 429 and the server's own may.
            if error.code < 500 and error.code != http.HTTPStatus.TOO_MANY_REQUESTS:
                raise PullError(f"{checkpoint.name}: HTTP {error.code} from {url}") from error
            cause: Exception = error
            asked_s = _retry_after(error)
        except _NETWORK_ERRORS as error:
            cause = error
            asked_s = 0.0
        else:
            return
        failures = 0 if _size(part) > before else failures + 1
        if failures >= options.attempts:
            raise PullError(
                f"{checkpoint.name}: {failures} connections in a row brought nothing; "
                f"{_size(part)} bytes are kept and the next pull goes on from there"
            ) from cause
        if failures or asked_s:
            pause_s = options.pause_s * 2 ** max(failures - 1, 0)
            time.sleep(min(max(asked_s, pause_s), _LONGEST_PAUSE_S))


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Return the seconds that the source asks to wait, 0 where it names none (or a date)."""
    told = error.headers.get("Retry-After", "")
    return float(told) if told.isdigit() else 0.0


def _download_once(
    checkpoint: Checkpoint, url: str, part: Path, timeout_s: float, progress: Progress | None
) -> None:
    offset = _size(part)
    if checkpoint.size is not None and offset >= checkpoint.size:
        return
    headers = {"User-Agent": "headshot-models", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - scheme checked above
    with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
        if offset and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            offset = 0  # the server does not know ranges: from the start
        length = response.headers.get("Content-Length")
        expected = offset + int(length) if length else checkpoint.size
        with part.open("ab" if offset else "wb") as stream:
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                offset += len(chunk)
                if checkpoint.size is not None and offset > checkpoint.size:
                    raise PullError(f"{checkpoint.name}: longer than the pinned size")
                if progress is not None:
                    progress(checkpoint, offset, expected)
    if expected is not None and offset < expected:
        raise http.client.IncompleteRead(b"", expected - offset)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
