"""Where the gateway may listen: loopback unless TLS and authentication are both on."""

from __future__ import annotations

import ipaddress


class InsecureListenError(ValueError):
    """The address is not safe with what is configured; start-up must stop."""


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach `address` ("host:port", "[::1]:1", "unix:...").

    A host name other than localhost counts as reachable: what it resolves to can change.
    """
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listen(address: str, *, tls: bool, authentication: bool, insecure: bool = False) -> None:
    """Refuse an address that others can reach without TLS and authentication.

    Args:
        address: "host:port" or "unix:...".
        tls: True when the port has server credentials.
        authentication: True when callers must prove who they are (keys or mTLS).
        insecure: the operator's explicit word that something else protects the port.

    Raises:
        InsecureListenError: says what is missing and how to go on.
    """
    if insecure or is_loopback(address) or (tls and authentication):
        return
    missing = [
        name for name, there in (("TLS", tls), ("authentication", authentication)) if not there
    ]
    raise InsecureListenError(
        f"refusing to listen on {address} without {' and '.join(missing)}: "
        "configure both, listen on 127.0.0.1, or pass --insecure if something else protects it"
    )
