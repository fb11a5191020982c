"""Identity templates at the edge: sealed on the way out, opened on the way in."""

from __future__ import annotations

import time

from headshot.errors import concerning
from headshot.pipeline.identity import Template
from headshot.security.templates import TemplateSealer
from headshot.telemetry import context as request_context


class Templates:
    """Seals and opens templates for the tenant of the current RPC.

    Args:
        sealer: key ring and format.
        recogniser: identifier of the recogniser that is served.
        longest_ttl_s: the operator's validity, seconds; a caller may ask for less.
    """

    def __init__(self, sealer: TemplateSealer, recogniser: str, longest_ttl_s: int) -> None:
        self._sealer = sealer
        self._recogniser = recogniser
        self._longest_ttl_s = longest_ttl_s

    def seal(
        self, template: Template, ttl_s: int, consent: str = "", photos: int = 1
    ) -> tuple[bytes, int]:
        """Return the token and its expiry in seconds since 1970.

        Args:
            template: whom to seal.
            ttl_s: wanted validity in seconds, cut to the longest; 0 for the longest.
            consent: reference to the person's consent, kept inside.
            photos: how many photos it was made from, kept inside.
        """
        expires = int(time.time()) + min(ttl_s or self._longest_ttl_s, self._longest_ttl_s)
        token = self._sealer.seal(
            template.vector,
            template.recogniser,
            _tenant(),
            expires_at=expires,
            consent_reference=consent,
            photos=photos,
        )
        return token, expires

    def open(self, token: bytes) -> tuple[Template | None, str]:
        """Return the template of a token, None for an empty one, and the consent it was made with.

        Raises:
            TemplateError: forged, expired, or of another recogniser or tenant.
        """
        if not token:
            return None, ""
        with concerning("identity_template"):
            opened = self._sealer.open(token, self._recogniser, _tenant())
        return Template(opened.embedding, self._recogniser), opened.consent_reference


def _tenant() -> str:
    current = request_context.current()
    return current.tenant if current else request_context.ANONYMOUS
