"""Sealed identity templates: the only form in which an embedding leaves the service.

Layout: magic "HST1", then key id, tenant and recogniser (each a length byte and UTF-8), a 96-bit
random nonce, and AES-256-GCM ciphertext with its 128-bit tag. Everything before the nonce is
authenticated as associated data; times, consent reference and the vector are inside the
ciphertext. Random nonces are safe for 2^32 seals with one key (NIST SP 800-38D, 8.3): rotate
before that.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from headshot.errors import TemplateError
from headshot.security.keyring import KeyRing
from headshot.telemetry.metrics import Metrics

MAGIC: Final = b"HST1"
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MAX_DIMENSION: Final = 4096
_BODY: Final = struct.Struct("<qqHHB")  # issued, expires (Unix s), dimension, photos, consent bytes


@dataclass(frozen=True)
class OpenedTemplate:
    """What a sealed template holds.

    Attributes:
        embedding: float32 [D], unit length.
        recogniser: id of the recogniser that made it.
        tenant: whom it was made for.
        issued_at: Unix seconds.
        expires_at: Unix seconds.
        consent_reference: the reference given when it was made; may be empty.
        photos: number of photos it was made from.
    """

    embedding: NDArray[np.float32]
    recogniser: str
    tenant: str
    issued_at: int
    expires_at: int
    consent_reference: str
    photos: int


class TemplateSealer:
    """Seals and opens templates with a key ring.

    Args:
        keys: called for the key ring at each use, so that rotation needs no restart.
        now: Unix seconds.
        metrics: counts seals, opens and refusals; None for nowhere.
    """

    def __init__(
        self,
        keys: Callable[[], KeyRing],
        *,
        now: Callable[[], float] = time.time,
        metrics: Metrics | None = None,
    ) -> None:
        self._keys = keys
        self._now = now
        self._metrics = metrics

    def seal(
        self,
        embedding: NDArray[np.float32],
        recogniser: str,
        tenant: str,
        expires_at: float,
        *,
        consent_reference: str = "",
        photos: int = 1,
    ) -> bytes:
        """Return the sealed token.

        Args:
            embedding: float32 [D], D from 1 to 4096.
            recogniser: id of the recogniser.
            tenant: who may use the token.
            expires_at: Unix seconds after which it is refused.
            consent_reference: up to 255 UTF-8 bytes, kept inside.
            photos: number of photos behind it, 0 to 65535.

        Raises:
            ValueError: an argument is out of its range.
        """
        vector = np.ascontiguousarray(embedding, dtype="<f4")
        if vector.ndim != 1 or not 1 <= vector.size <= MAX_DIMENSION:
            raise ValueError("an embedding is a vector of 1 to 4096 numbers")
        if not np.isfinite(vector).all():
            raise ValueError("an embedding must be finite")
        consent = consent_reference.encode()
        if len(consent) > 255 or not 0 <= photos <= 0xFFFF:
            raise ValueError("the consent reference or the photo count is out of range")
        key_id, key = self._keys().active
        header = MAGIC + _text(key_id) + _text(tenant) + _text(recogniser)
        body = _BODY.pack(int(self._now()), int(expires_at), vector.size, photos, len(consent))
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, body + consent + vector.tobytes(), header)
        self._count("sealed")
        return header + nonce + sealed

    def open(self, token: bytes, recogniser: str, tenant: str) -> OpenedTemplate:
        """Return what the token holds, if this tenant and this recogniser may use it.

        Raises:
            TemplateError: TEMPLATE_FORGED (not ours, changed, or of a key that was taken out of
                the ring), TEMPLATE_OTHER_TENANT, TEMPLATE_OTHER_RECOGNISER, TEMPLATE_EXPIRED.
        """
        try:
            opened = self._open(token)
            _check_use(opened, recogniser, tenant, self._now())
        except TemplateError as error:
            self._count(error.reason)
            raise
        self._count("opened")
        return opened

    def _open(self, token: bytes) -> OpenedTemplate:
        try:
            key_id, tenant, recogniser, rest = _header(token)
            key = self._keys().key(key_id)
            if key is None:
                raise _forged()
            header = token[: len(token) - len(rest)]
            nonce, sealed = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
            body = AESGCM(key).decrypt(nonce, sealed, header)
        except (InvalidTag, ValueError, IndexError) as error:
            raise _forged() from error
        issued, expires, dimension, photos, consent_bytes = _BODY.unpack_from(body)
        consent = body[_BODY.size : _BODY.size + consent_bytes].decode()
        vector = np.frombuffer(body, dtype="<f4", offset=_BODY.size + consent_bytes)
        if vector.size != dimension:
            raise _forged()
        embedding = vector.astype(np.float32)
        return OpenedTemplate(embedding, recogniser, tenant, issued, expires, consent, photos)

    def _count(self, event: str) -> None:
        if self._metrics is not None:
            self._metrics.template(event)


def _check_use(opened: OpenedTemplate, recogniser: str, tenant: str, now: float) -> None:
    if opened.tenant != tenant:
        raise TemplateError(
            "the template was made for another tenant; make one with your own key",
            reason="TEMPLATE_OTHER_TENANT",
        )
    if opened.recogniser != recogniser:
        raise TemplateError(
            "the template was made with another recogniser; make a new one from photos",
            reason="TEMPLATE_OTHER_RECOGNISER",
            metadata={"recogniser": recogniser},
        )
    if now >= opened.expires_at:
        raise TemplateError(
            "the template has expired; make a new one from photos", reason="TEMPLATE_EXPIRED"
        )


def _forged() -> TemplateError:
    return TemplateError(
        "the template is not one of this service, or was changed; make a new one from photos",
        reason="TEMPLATE_FORGED",
    )


def _text(text: str) -> bytes:
    data = text.encode()
    if not 1 <= len(data) <= 255:
        raise ValueError("a name in a template has 1 to 255 UTF-8 bytes")
    return bytes([len(data)]) + data


def _header(token: bytes) -> tuple[str, str, str, bytes]:
    """Split a token; raises ValueError or IndexError when it is not well formed."""
    if token[: len(MAGIC)] != MAGIC:
        raise ValueError("no magic")
    names: list[str] = []
    at = len(MAGIC)
    for _ in range(3):
        size = token[at]
        names.append(token[at + 1 : at + 1 + size].decode())
        at += 1 + size
    rest = token[at:]
    if len(rest) < NONCE_BYTES + TAG_BYTES + _BODY.size:
        raise ValueError("too short")
    return names[0], names[1], names[2], rest
