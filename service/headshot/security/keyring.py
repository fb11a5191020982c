"""The operator's keys for sealed templates, with rotation.

The file (YAML or JSON):

    keys:
      - {id: "2026-11", key: <base64 of 32 random bytes>, active: true}
      - {id: "2026-05", key: <base64 of 32 random bytes>}

The active key seals; every key opens. To rotate: add a new key, make it active, and take the old
one out when the templates it sealed have expired.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from headshot.security.secret_yaml import load_yaml
from headshot.security.watch import WatchedFiles
from headshot.telemetry.metrics import Metrics

KEY_BYTES: Final = 32


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    key: SecretStr
    active: bool = False


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: tuple[_Entry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_active(self) -> _File:
        if sum(entry.active for entry in self.keys) != 1:
            raise ValueError("exactly one template key must be active")
        if len({entry.id for entry in self.keys}) != len(self.keys):
            raise ValueError("template key ids must be unique")
        return self


class KeyRing:
    """Keys by id, one of them active.

    Args:
        active_id: the key that seals.
        keys: 32-byte keys by id.

    Raises:
        ValueError: a key is not 32 bytes, or the active one is missing.
    """

    def __init__(self, active_id: str, keys: dict[str, bytes]) -> None:
        if active_id not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError("template keys are 32 bytes each, and the active one must be there")
        self._active_id = active_id
        self._keys = dict(keys)

    def __repr__(self) -> str:
        """Show ids only."""
        return f"KeyRing(active={self._active_id!r}, ids={sorted(self._keys)})"

    @property
    def active(self) -> tuple[str, bytes]:
        """Return id and key that seal."""
        return self._active_id, self._keys[self._active_id]

    def key(self, key_id: str) -> bytes | None:
        """Return the key with this id, None when it is not in the ring."""
        return self._keys.get(key_id)

    @classmethod
    def ephemeral(cls) -> KeyRing:
        """Return a ring with one random key: its templates end with the process.

        Several workers need a key file, since each would draw a key of its own.
        """
        return cls("ephemeral", {"ephemeral": os.urandom(KEY_BYTES)})

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """Read a key file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not well formed; keys are never quoted.
        """
        found = _File.model_validate(load_yaml(path))
        keys = {}
        for entry in found.keys:
            try:
                keys[entry.id] = base64.b64decode(entry.key.get_secret_value(), validate=True)
            except binascii.Error:
                raise ValueError(f"template key {entry.id!r} is not base64") from None
        active = next(entry.id for entry in found.keys if entry.active)
        return cls(active, keys)


def watched_keyring(
    path: Path, *, interval_s: float = 5.0, metrics: Metrics | None = None
) -> Callable[[], KeyRing]:
    """Return a function that gives the newest good version of a key file."""
    files: WatchedFiles[KeyRing] = WatchedFiles(
        "template_keys", (path,), lambda: KeyRing.load(path), interval_s=interval_s, metrics=metrics
    )
    return lambda: files.value


def new_key() -> str:
    """Return a fresh key in the file's base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()
