"""API keys and client certificates: which tenant calls, and what it may use.

The file (YAML or JSON) holds hashes, never secrets:

    credentials:
      - id: website-2026           # shows in logs and in the audit log
        tenant: website
        sha256: 9f86d0...          # of salt bytes followed by the key's UTF-8 bytes
        salt: 00112233...          # hex, optional
        not_after: 2027-01-01T00:00:00Z   # optional
        priority: interactive      # the most urgent class it may use: interactive or batch
        quota: {concurrency: 8, rate_per_s: 4, burst: 8, weight: 1}
      - id: batch-host
        tenant: archive
        certificate: archive.internal     # common name or DNS name of a verified client certificate

Keys are random 256-bit strings (`new_api_key`), so a single SHA-256 is enough: there is nothing to
guess, and a slow password hash on every call would be a way to overload the service.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headshot.errors import UnauthenticatedError
from headshot.security.secret_yaml import load_yaml
from headshot.security.watch import WatchedFiles
from headshot.telemetry.context import Priority
from headshot.telemetry.metrics import Metrics

KEY_PREFIX: Final = "hsk_"
_NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_MAX_TOKEN_CHARS: Final = 512


class TenantQuota(BaseModel):
    """What one tenant may use of one gateway process.

    Attributes:
        concurrency: permits (sum of costs) out at once.
        rate_per_s: work a second in the long run, in headshots of one candidate; 0 is without
            limit.
        burst: work that may be asked for at once after a quiet time.
        weight: share of the service under load, relative to the other tenants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: float = Field(default=64.0, gt=0)
    rate_per_s: float = Field(default=0.0, ge=0)
    burst: float = Field(default=16.0, ge=1)
    weight: float = Field(default=1.0, gt=0, le=1000)


class Credential(BaseModel):
    """One entry of the file; see the module's text for the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=_NAME)
    tenant: str = Field(pattern=_NAME)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", repr=False)
    salt: str = Field(default="", pattern=r"^([0-9a-f]{2})*$", repr=False)
    certificate: str = ""
    not_after: datetime | None = None
    priority: Literal["interactive", "batch"] = "interactive"
    quota: TenantQuota = TenantQuota()

    @field_validator("not_after")
    @classmethod
    def _with_zone(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @model_validator(mode="after")
    def _one_proof(self) -> Credential:
        if bool(self.sha256) == bool(self.certificate):
            raise ValueError(f"credential {self.id!r} needs either sha256 or certificate")
        return self

    @property
    def highest_priority(self) -> Priority:
        """Return the most urgent class this credential may use."""
        return Priority[self.priority.upper()]


class CredentialFile(BaseModel):
    """The whole file; ids and certificates are unique, a tenant's quotas agree."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    credentials: tuple[Credential, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> CredentialFile:
        ids = [entry.id for entry in self.credentials]
        names = [entry.certificate for entry in self.credentials if entry.certificate]
        if len(set(ids)) != len(ids) or len(set(names)) != len(names):
            raise ValueError("credential ids and certificate names must be unique")
        quotas: dict[str, TenantQuota] = {}
        for entry in self.credentials:
            if quotas.setdefault(entry.tenant, entry.quota) != entry.quota:
                raise ValueError(f"the credentials of tenant {entry.tenant!r} differ in quota")
        return self


def load_credentials(path: Path) -> CredentialFile:
    """Read and check a credential file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what the module's text describes; values are not quoted.
    """
    loaded = load_yaml(path)
    if isinstance(loaded, list):
        raise ValueError("it is a bare list; put a line `credentials:` above it")
    return CredentialFile.model_validate(loaded)


class CredentialStore:
    """Answers who a caller is; reads its file again when it changes.

    Args:
        path: the credential file.
        interval_s: how often, at most, the file's stamp is looked at.
        clock: monotonic seconds, for the looks.
        now: Unix seconds, for expiry.
        metrics: gets the tenants' labels and the reload counts.
    """

    def __init__(
        self,
        path: Path,
        *,
        interval_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        metrics: Metrics | None = None,
    ) -> None:
        self._now = now
        self._metrics = metrics

        def load() -> CredentialFile:
            loaded = load_credentials(path)
            if metrics is not None:
                metrics.known_tenants(entry.tenant for entry in loaded.credentials)
            return loaded

        self._files: WatchedFiles[CredentialFile] = WatchedFiles(
            "credentials", (path,), load, interval_s=interval_s, clock=clock, metrics=metrics
        )

    def authenticate(
        self, metadata: Iterable[tuple[str, str | bytes]], certificate_names: Sequence[str] = ()
    ) -> Credential:
        """Return the credential of a call.

        Args:
            metadata: the call's metadata; `authorization: Bearer KEY` or `x-api-key: KEY`.
            certificate_names: common name and DNS names of a client certificate that TLS verified.

        Raises:
            UnauthenticatedError: reasons CREDENTIALS_MISSING, CREDENTIALS_UNKNOWN,
                CREDENTIALS_EXPIRED.
        """
        entries = self._files.value.credentials
        token = _token(metadata)
        found = _by_token(entries, token) if token else _by_name(entries, certificate_names)
        if found is None:
            missing = not token and not certificate_names
            raise UnauthenticatedError(
                "send a known key as 'authorization: Bearer KEY' or 'x-api-key: KEY'",
                reason="CREDENTIALS_MISSING" if missing else "CREDENTIALS_UNKNOWN",
            )
        if found.not_after is not None and self._now() >= found.not_after.timestamp():
            raise UnauthenticatedError(
                "the key has expired; ask the operator for a new one", reason="CREDENTIALS_EXPIRED"
            )
        return found

    def quota(self, tenant: str) -> TenantQuota:
        """Return a tenant's quota; the default one for a tenant that is not in the file."""
        for entry in self._files.value.credentials:
            if entry.tenant == tenant:
                return entry.quota
        return TenantQuota()


def new_api_key(id_: str, tenant: str) -> tuple[str, dict[str, Any]]:
    """Return a fresh key, to be shown once, and its entry for the file."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    salt = secrets.token_bytes(16)
    entry = {"id": id_, "tenant": tenant, "salt": salt.hex(), "sha256": _digest(salt, key)}
    Credential.model_validate(entry)
    return key, entry


def _digest(salt: bytes, key: str) -> str:
    return hashlib.sha256(salt + key.encode()).hexdigest()


def _token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for name, value in metadata:
        if not isinstance(value, str) or len(value) > _MAX_TOKEN_CHARS:
            continue
        if name == "x-api-key":
            return value.strip()
        if name == "authorization":
            match = re.fullmatch(r"(?i)bearer +(\S+) *", value)
            if match:
                return match.group(1)
    return ""


def _by_token(entries: Iterable[Credential], token: str) -> Credential | None:
    """Compare with every entry, in constant time each, so that time does not tell which is near."""
    found = None
    for entry in entries:
        digest = _digest(bytes.fromhex(entry.salt), token)
        same = hmac.compare_digest(digest, entry.sha256 or "0" * 64)
        if same and entry.sha256:
            found = entry
    return found


def _by_name(entries: Iterable[Credential], names: Sequence[str]) -> Credential | None:
    for entry in entries:
        if entry.certificate and entry.certificate in names:
            return entry
    return None
