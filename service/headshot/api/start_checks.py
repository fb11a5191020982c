"""What can be found wrong with the settings before anything that takes long is started.

With several workers the parent would else start one after the other of them in vain.
"""

from __future__ import annotations

from collections.abc import Callable

from headshot.config import Settings
from headshot.extras import check_extras
from headshot.security.credentials import CredentialStore
from headshot.security.keyring import watched_keyring
from headshot.security.listen_policy import check_listen
from headshot.security.tls import TlsFiles, server_credentials
from headshot.telemetry.audit import AuditLog, key_from_environment
from headshot.telemetry.http import check_address


def check_start(settings: Settings) -> None:
    """Look at addresses, extras and files.

    Raises:
        InsecureListenError: the address is not allowed without TLS and credentials.
        MissingExtraError: a setting needs packages that are not installed.
        OSError: the operations port is not free; the gRPC port is not looked at.
        ValueError: a file is not what it should be; the text names the setting.
    """
    check_listen(
        f"{settings.host}:{settings.port}",
        tls=settings.tls_certificate is not None,
        authentication=settings.credentials is not None,
        insecure=settings.insecure,
    )
    check_address(settings.operations_host, settings.operations_port)
    check_extras(settings)
    if settings.credentials is not None:
        path = settings.credentials
        _try("credentials", lambda: CredentialStore(path))
    if settings.template_keys is not None:
        keys = settings.template_keys
        _try("template_keys", lambda: watched_keyring(keys))
    if settings.tls_certificate is not None and settings.tls_key is not None:
        files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        _try("tls_certificate, tls_key, tls_client_ca", lambda: server_credentials(files))
    if settings.audit_log is not None:
        log = settings.audit_log
        _try("audit_log", lambda: AuditLog(log, key=key_from_environment()).close())


def _try(setting: str, use: Callable[[], object]) -> None:
    try:
        use()
    except (OSError, ValueError) as error:
        raise ValueError(f"{setting}: {error}") from error
