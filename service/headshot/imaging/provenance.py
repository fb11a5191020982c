"""C2PA content credentials: a signed manifest in the finished picture.

Optional: needs the `c2pa` extra and the operator's key. Signing is the last thing done to a file,
for any later change breaks the signature. No thumbnail is put into the manifest.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from headshot.errors import ProvenanceError

Algorithm = Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"]
_LABEL: Final = b"jumdc2pa"
"""The type of the JUMBF description box that every C2PA manifest store begins with."""
_STYLE_ASSERTION: Final = "org.headshot.style"
_MEDIA_TYPES: Final = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "tiff": "image/tiff",
    "heic": "image/heic",
}


class Described(Protocol):
    """What a manifest says; `headshot.imaging.metadata.Provenance` is one."""

    @property
    def source_type_url(self) -> str:
        """IPTC digital source type."""

    @property
    def software(self) -> str:
        """Name and version."""

    @property
    def style_id(self) -> str:
        """Style guide."""

    @property
    def style_version(self) -> str:
        """Its version."""

    @property
    def steps(self) -> tuple[str, ...]:
        """What was done."""


@dataclass(frozen=True)
class Signer:
    """Who signs, and how.

    Attributes:
        certificates: PEM chain, the signer's own first, without the root.
        algorithm: of the signature.
        sign: bytes to be signed -> raw signature (for ECDSA: r and s side by side, IEEE P1363), for
            keys that live in a key management service.
        private_key: PEM (PKCS #8) instead of `sign`.
        timestamp_url: RFC 3161 time-stamping authority; None signs offline, without a time proof.
    """

    certificates: str
    algorithm: Algorithm = "es256"
    sign: Callable[[bytes], bytes] | None = None
    private_key: str | None = None
    timestamp_url: str | None = None

    def __post_init__(self) -> None:
        """Exactly one of `sign` and `private_key` is given."""
        if (self.sign is None) == (self.private_key is None):
            raise ProvenanceError(
                "Give either a private key or a signing function.", reason="C2PA_KEY_INVALID"
            )

    @classmethod
    def from_files(
        cls,
        certificates: Path,
        private_key: Path,
        algorithm: Algorithm = "es256",
        timestamp_url: str | None = None,
    ) -> Signer:
        """Read the PEM chain and key from files.

        Raises:
            ProvenanceError: C2PA_KEY_INVALID when a file cannot be read.
        """
        try:
            chain, key = certificates.read_text(), private_key.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ProvenanceError(
                "The C2PA certificate or key file cannot be read.", reason="C2PA_KEY_INVALID"
            ) from error
        return cls(chain, algorithm, private_key=key, timestamp_url=timestamp_url)


def is_available() -> bool:
    """Whether the `c2pa` extra is installed."""
    try:
        _library()
    except ProvenanceError:
        return False
    return True


def sign(data: bytes, media_type: str, signer: Signer, provenance: Described) -> bytes:
    """Add a signed manifest to a finished file; the last step.

    Args:
        data: an encoded picture.
        media_type: its MIME type.
        signer: key and certificates.
        provenance: what the manifest says: a `c2pa.created` action with the digital source type,
            and the style.

    Returns:
        the file with the manifest; nothing of the picture changes.

    Raises:
        ProvenanceError: C2PA_NOT_INSTALLED, C2PA_KEY_INVALID, or C2PA_FAILED.
    """
    c2pa = _library()
    manifest = _manifest(provenance)
    try:
        with _native_signer(c2pa, signer) as native:
            out = io.BytesIO()
            builder = c2pa.Builder(manifest, context=_context())
            builder.sign(native, media_type, io.BytesIO(data), out)
            return out.getvalue()
    except c2pa.C2paError as error:
        raise ProvenanceError("The picture could not be signed with the C2PA key.") from error


def read_manifest(data: bytes, image_format: str) -> dict[str, Any] | None:
    """Summary of the C2PA manifest in a file, or None where there is none.

    Args:
        data: the file.
        image_format: as in `headshot.imaging.limits.Header`.

    Returns:
        present; and, where the extra is installed: state ("Valid", "Trusted", "Invalid"), issuer,
        claim_generator, digital_source_type, style and problems (validation codes; a certificate
        that is not on a trust list is not counted as one).
    """
    if _LABEL not in data:
        return None
    try:
        c2pa = _library()
    except ProvenanceError:
        return {"present": True, "state": "not checked: install headshot[c2pa]"}
    try:
        reader = c2pa.Reader(_MEDIA_TYPES[image_format], io.BytesIO(data), context=_context())
        store = json.loads(reader.json())
    except (c2pa.C2paError, ValueError):
        return {"present": True, "state": "Invalid"}
    return _summary(store)


def _summary(store: Mapping[str, Any]) -> dict[str, Any]:
    active = store.get("manifests", {}).get(store.get("active_manifest", ""), {})
    actions: list[Mapping[str, Any]] = []
    style: Mapping[str, Any] = {}
    for assertion in active.get("assertions", ()):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            actions = list(assertion["data"].get("actions", ()))
        elif assertion.get("label") == _STYLE_ASSERTION:
            style = assertion["data"]
    generators = active.get("claim_generator_info") or [{}]
    signature = active.get("signature_info", {})
    return {
        "present": True,
        "state": store.get("validation_state"),
        "issuer": signature.get("issuer"),
        "algorithm": signature.get("alg"),
        "claim_generator": " ".join(
            str(generators[0][key]) for key in ("name", "version") if key in generators[0]
        ),
        "digital_source_type": next(
            (action["digitalSourceType"] for action in actions if "digitalSourceType" in action),
            None,
        ),
        "style": dict(style) or None,
        "problems": sorted(
            {
                str(status.get("code"))
                for status in store.get("validation_status", ())
                if status.get("code") != "signingCredential.untrusted"
            }
        ),
    }


def _manifest(provenance: Described) -> str:
    name, _, version = provenance.software.partition(" ")
    action = {
        "action": "c2pa.created",
        "digitalSourceType": provenance.source_type_url,
        "softwareAgent": {"name": name, "version": version},
    }
    style = {
        "id": provenance.style_id,
        "version": provenance.style_version,
        "steps": list(provenance.steps),
    }
    return json.dumps(
        {
            "claim_generator_info": [{"name": name, "version": version}],
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
                {"label": _STYLE_ASSERTION, "data": style},
            ],
        }
    )


def _native_signer(c2pa: Any, signer: Signer) -> Any:
    algorithm = signer.algorithm.upper()
    try:
        if signer.sign is not None:
            return c2pa.Signer.from_callback(
                signer.sign,
                c2pa.C2paSigningAlg[algorithm],
                signer.certificates,
                signer.timestamp_url,
            )
        info = c2pa.C2paSignerInfo(
            alg=signer.algorithm,
            sign_cert=signer.certificates.encode(),
            private_key=(signer.private_key or "").encode(),
            ta_url=signer.timestamp_url,
        )
        return c2pa.Signer.from_info(info)
    except (c2pa.C2paError, ValueError) as error:
        raise ProvenanceError(
            "The C2PA certificate chain or key is not valid.", reason="C2PA_KEY_INVALID"
        ) from error


@functools.cache
def _context() -> Any:
    c2pa = _library()
    settings = {"builder": {"thumbnail": {"enabled": False}}}
    return c2pa.Context(settings=c2pa.Settings.from_dict(settings))


def _library() -> Any:
    try:
        import c2pa  # noqa: PLC0415  an optional extra with a native library, loaded when used
    except ImportError as error:
        raise ProvenanceError(
            "C2PA signing needs the c2pa extra: pip install 'headshot[c2pa]'.",
            reason="C2PA_NOT_INSTALLED",
        ) from error
    return c2pa
