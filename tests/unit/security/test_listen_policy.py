from __future__ import annotations

import pytest
from headshot.security.listen_policy import InsecureListenError, check_listen, is_loopback


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1", "unix:/run/h.sock"]
)
def test_loopback_is_open_by_default(address: str) -> None:
    assert is_loopback(address)
    check_listen(address, tls=False, authentication=False)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1", ":1", "127.0.0.1.evil.org:1", "1"],
)
@pytest.mark.parametrize(("tls", "authentication"), [(False, False), (True, False), (False, True)])
def test_other_addresses_need_tls_and_authentication(
    address: str, tls: bool, authentication: bool
) -> None:
    with pytest.raises(InsecureListenError, match="--insecure"):
        check_listen(address, tls=tls, authentication=authentication)
    check_listen(address, tls=True, authentication=True)
    check_listen(address, tls=tls, authentication=authentication, insecure=True)


def test_the_refusal_says_what_is_missing() -> None:
    with pytest.raises(InsecureListenError, match="without authentication:"):
        check_listen("0.0.0.0:1", tls=True, authentication=False)
    with pytest.raises(InsecureListenError, match="without TLS:"):
        check_listen("0.0.0.0:1", tls=False, authentication=True)
