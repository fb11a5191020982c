from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from headshot.api.interceptors import server_interceptors
from headshot.security.credentials import CredentialStore
from headshot.security.tls import TlsFiles, peer_names, server_credentials
from headshot.telemetry import context as request_context
from headshot.telemetry.metrics import Metrics
from headshot.telemetry.tracing import NullTracing
from prometheus_client import CollectorRegistry

from tests.unit.security.certificates import Authority


async def whoami(_request: bytes, _context: object) -> bytes:
    current = request_context.current()
    assert current is not None
    return current.tenant.encode()


@asynccontextmanager
async def serving(
    credentials: grpc.ServerCredentials, store: CredentialStore | None = None
) -> AsyncIterator[int]:
    metrics = Metrics(CollectorRegistry())
    server = grpc.aio.server(interceptors=server_interceptors(metrics, NullTracing(), store))
    handlers = {"WhoAmI": grpc.unary_unary_rpc_method_handler(whoami)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield port
    await server.stop(None)


async def ask(
    port: int, root: bytes, certificate: bytes | None = None, key: bytes | None = None
) -> bytes:
    credentials = grpc.ssl_channel_credentials(root, key, certificate)
    target = f"localhost:{port}"
    async with grpc.aio.secure_channel(target, credentials) as channel:
        untyped: Any = channel  # The stubs want serializers; bytes go as they are.
        answer: bytes = await untyped.unary_unary("/t.T/WhoAmI")(b"", timeout=10)
        return answer


async def test_tls_serves_callers_who_trust_the_authority(tmp_path: Path) -> None:
    authority = Authority()
    files = TlsFiles(*authority.issue("server").write(tmp_path, "server"))
    async with serving(server_credentials(files)) as port:
        assert await ask(port, authority.certificate) == b"anonymous"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(port, Authority("Another CA").certificate)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mtls_makes_a_tenant_of_a_verified_certificate(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("server").write(tmp_path, "server")
    client_ca = tmp_path / "clients.pem"
    client_ca.write_bytes(authority.certificate)
    keys = tmp_path / "credentials.yaml"
    entry = {"id": "archive", "tenant": "archive", "certificate": "archive.internal"}
    keys.write_text(yaml.safe_dump({"credentials": [entry]}))
    known, stranger = authority.issue("archive.internal"), authority.issue("stranger")
    forged = Authority("Another CA").issue("archive.internal")
    credentials = server_credentials(TlsFiles(certificate, key, client_ca))
    async with serving(credentials, CredentialStore(keys)) as port:
        root = authority.certificate
        assert await ask(port, root, known.certificate, known.key) == b"archive"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(port, root, stranger.certificate, stranger.key)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        for bad in (forged, None):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                pair = (bad.certificate, bad.key) if bad else (None, None)
                await ask(port, root, *pair)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    old, new = Authority("Old CA"), Authority("New CA")
    files = TlsFiles(*old.issue("server").write(tmp_path, "server"))
    metrics = Metrics(CollectorRegistry())
    async with serving(server_credentials(files, interval_s=0, metrics=metrics)) as port:
        assert await ask(port, old.certificate) == b"anonymous"
        new.issue("server").write(tmp_path, "server")
        assert await ask(port, new.certificate) == b"anonymous"
        files.key.write_text("half a renewal")
        assert await ask(port, new.certificate) == b"anonymous"
    expiry = metrics.registry.get_sample_value("headshot_tls_certificate_expiry_timestamp_seconds")
    assert expiry is not None
    assert expiry > 1.7e9


def test_a_key_of_another_certificate_is_refused_at_start(tmp_path: Path) -> None:
    authority = Authority()
    certificate, _ = authority.issue("server").write(tmp_path, "one")
    _, key = authority.issue("server").write(tmp_path, "two")
    with pytest.raises(ValueError, match="belong together"):
        server_credentials(TlsFiles(certificate, key))


def test_peer_names_are_the_common_name_and_dns_names() -> None:
    auth = {"x509_common_name": [b"a"], "x509_subject_alternative_name": [b"a", b"b.internal"]}
    assert peer_names(auth) == ["a", "b.internal"]
    assert peer_names({}) == []
