"""Server certificates for TLS and mTLS, read again when the files change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from headshot.security.watch import WatchedFiles
from headshot.telemetry.metrics import Metrics


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of the server.

    Attributes:
        certificate: the server's certificate chain, leaf first.
        key: its private key, not encrypted.
        client_ca: authorities of client certificates; with it a client must present one (mTLS).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class _Loaded:
    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires_at: float


def _load(files: TlsFiles) -> _Loaded:
    certificate = files.certificate.read_bytes()
    key = files.key.read_bytes()
    leaf = x509.load_pem_x509_certificate(certificate)
    private = load_pem_private_key(key, password=None)
    if private.public_key() != leaf.public_key():
        # Seen while the two files are being replaced; the reload is tried again on the next change.
        raise ValueError("the TLS certificate and key do not belong together")
    client_ca = files.client_ca.read_bytes() if files.client_ca else None
    if client_ca is not None:
        x509.load_pem_x509_certificates(client_ca)
    return _Loaded(certificate, key, client_ca, leaf.not_valid_after_utc.timestamp())


def server_credentials(
    files: TlsFiles,
    *,
    interval_s: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    metrics: Metrics | None = None,
) -> grpc.ServerCredentials:
    """Return credentials for `add_secure_port` that follow the files.

    New connections get the newest certificate that loads; open ones keep theirs.

    Args:
        files: the PEM files.
        interval_s: how often, at most, their stamps are looked at.
        clock: monotonic seconds.
        metrics: gets the reload counts and the certificate's end.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not PEM, or the key is another certificate's.
    """
    paths = tuple(path for path in (files.certificate, files.key, files.client_ca) if path)

    def load() -> _Loaded:
        loaded = _load(files)
        if metrics is not None:
            metrics.certificate_expires(loaded.expires_at)
        return loaded

    watched: WatchedFiles[_Loaded] = WatchedFiles(
        "tls", paths, load, interval_s=interval_s, clock=clock, metrics=metrics
    )
    served = watched.value

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each new connection; None keeps what is in use."""
        nonlocal served
        newest = watched.value
        if newest is served:
            return None
        served = newest
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        fetch,  # type: ignore[arg-type]  # the stubs leave out the documented None
        require_client_authentication=files.client_ca is not None,
    )


def _configuration(loaded: _Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key, loaded.certificate)], root_certificates=loaded.client_ca
    )


def peer_names(auth_context: Mapping[str, list[bytes] | tuple[bytes, ...]]) -> list[str]:
    """Return the names in a client certificate that TLS verified: common name and DNS names.

    Args:
        auth_context: `ServicerContext.auth_context()`; empty without mTLS.
    """
    names: list[str] = []
    for key in ("x509_common_name", "x509_subject_alternative_name"):
        for value in auth_context.get(key, ()):
            text = value.decode("utf-8", "replace")
            if text and text not in names:
                names.append(text)
    return names
