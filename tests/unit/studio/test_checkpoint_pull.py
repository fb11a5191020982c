"""Pulling checkpoints from a real HTTP server on the loopback interface."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from headshot.models.licences import (
    LicenceError,
    LicenceMode,
    check_content,
    check_served,
    mode_of_sources,
)
from headshot.models.manifest import Checkpoint, Manifest, load_manifest
from headshot.models.pull import PullError, PullOptions, State, pull, source_url, state_of

from tests.unit.security.certificates import Authority

CONTENT = bytes(range(256)) * 12_000  # 3 MB, so that a pull takes several reads


class FileServer(http.server.ThreadingHTTPServer):
    """Serves CONTENT; can drop the line, break TLS, ignore ranges, or answer with an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.drop_after: list[int] = []
        self.ranges = True
        self.statuses: list[int] = []
        self.retry_after = ""
        self.times: list[float] = []
        self.body = CONTENT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        self.server.times.append(time.monotonic())
        if self.server.statuses:
            self.send_response(self.server.statuses.pop(0))
            if self.server.retry_after:
                self.send_header("Retry-After", self.server.retry_after)
            self.end_headers()
            return
        start = 0
        if wanted and self.server.ranges:
            found = re.fullmatch(r"bytes=(\d+)-", wanted)
            assert found
            start = int(found[1])
            if start >= len(self.server.body):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        body = self.server.body[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.drop_after:
            body = body[: self.server.drop_after.pop(0)]
        self.wfile.write(body)
        if isinstance(self.connection, ssl.SSLSocket) and len(body) < len(CONTENT) - start:
            os.write(self.connection.fileno(), b"no TLS record " * 64)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def checkpoint(url: str, **changes: object) -> Checkpoint:
    fields: dict[str, object] = {
        "name": "toy",
        "stage": "upscaler",
        "path": "upscaler/toy.pth",
        "url": url,
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "licence": "MIT",
        "commercial": True,
        "profile": "studio",
        "required": True,
    }
    return Checkpoint.model_validate(fields | changes)


@pytest.fixture
def manifest() -> Manifest:
    return load_manifest()


def test_a_pull_brings_the_pinned_content_and_reports_progress(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    path = pull(
        checkpoint(f"{server.url}/toy"),
        tmp_path,
        manifest,
        progress=lambda _, done, total: seen.append((done, total)),
    )
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert not list(tmp_path.rglob("*.part"))


def test_a_second_pull_asks_the_server_for_nothing(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    file = checkpoint(f"{server.url}/toy")
    pull(file, tmp_path, manifest)
    pull(file, tmp_path, manifest)
    assert len(server.requests) == 1


def test_a_dropped_connection_is_resumed_where_it_broke_off(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.drop_after = [1_000_000, 500_000]
    path = pull(checkpoint(f"{server.url}/toy"), tmp_path, manifest)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_pull_goes_on_from_the_part_file(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    file = checkpoint(f"{server.url}/toy")
    part = tmp_path / "upscaler" / "toy.pth.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:2_000_000])
    assert state_of(file, tmp_path) is State.PARTIAL
    assert pull(file, tmp_path, manifest).read_bytes() == CONTENT
    assert server.requests == [("/toy", "bytes=2000000-")]


def test_a_server_without_ranges_is_read_from_the_start(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.ranges = False
    server.drop_after = [700_000]
    assert pull(checkpoint(f"{server.url}/toy"), tmp_path, manifest).read_bytes() == CONTENT


def test_a_server_that_brings_nothing_is_given_up_and_the_part_is_kept(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.drop_after = [1_000_000, 0, 0, 0]
    with pytest.raises(PullError, match="1000000 bytes are kept"):
        pull(
            checkpoint(f"{server.url}/toy"),
            tmp_path,
            manifest,
            options=PullOptions(attempts=3, pause_s=0.01),
        )
    assert (tmp_path / "upscaler" / "toy.pth.part").stat().st_size == 1_000_000


def test_a_source_that_asks_for_a_pause_gets_it(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.statuses, server.retry_after = [429], "1"
    options = PullOptions(pause_s=0.0)
    pull(checkpoint(f"{server.url}/toy"), tmp_path, manifest, options=options)
    first, second = server.times
    assert second - first >= 1.0


def test_each_pause_is_twice_as_long_as_the_one_before(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.statuses = [503, 503, 503]
    options = PullOptions(pause_s=0.1)
    pull(checkpoint(f"{server.url}/toy"), tmp_path, manifest, options=options)
    gaps = [later - sooner for sooner, later in pairwise(server.times)]
    assert all(gap >= pause for gap, pause in zip(gaps, (0.1, 0.2, 0.4), strict=True))


def test_a_tls_connection_that_breaks_is_resumed(
    server: FileServer, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    certificate, key = authority.issue("server").write(tmp_path, "server")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.drop_after = [1_000_000]
    file = checkpoint(f"https://localhost:{server.server_port}/toy")
    path = pull(file, tmp_path, manifest, options=PullOptions(pause_s=0.01))
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "upscaler").write_bytes(b"a file where the folder should be")
    with pytest.raises(PullError, match=r"toy: .*(exists|directory)"):
        pull(checkpoint(f"{server.url}/toy"), tmp_path, manifest)


def test_other_content_than_pinned_is_thrown_away(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.body = CONTENT[:-1] + b"x"
    file = checkpoint(f"{server.url}/toy")
    with pytest.raises(PullError, match="sha256"):
        pull(file, tmp_path, manifest)
    assert state_of(file, tmp_path) is State.MISSING


def test_content_longer_than_pinned_is_stopped_early(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.body = CONTENT * 2
    with pytest.raises(PullError, match="longer than the pinned size"):
        pull(checkpoint(f"{server.url}/toy"), tmp_path, manifest)


def test_a_missing_file_is_told_at_once_and_a_server_error_is_tried_again(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    server.statuses = [503, 404]
    options = PullOptions(pause_s=0.01)
    with pytest.raises(PullError, match="HTTP 404"):
        pull(checkpoint(f"{server.url}/toy"), tmp_path, manifest, options=options)
    assert len(server.requests) == 2


def test_a_mirror_replaces_scheme_and_host_and_keeps_the_path(
    server: FileServer, manifest: Manifest, tmp_path: Path
) -> None:
    file = checkpoint("https://example.org/models/v1/toy.pth")
    assert source_url(file, None) == file.url
    options = PullOptions(mirror=f"{server.url}/mirror/")
    pull(file, tmp_path, manifest, options=options)
    assert server.requests == [("/mirror/models/v1/toy.pth", None)]


def test_an_offline_folder_is_copied_from_and_checked(manifest: Manifest, tmp_path: Path) -> None:
    usb = tmp_path / "usb"
    usb.mkdir()
    (usb / "toy.pth").write_bytes(CONTENT)
    file = checkpoint("https://example.org/toy")
    options = PullOptions(offline=usb)
    assert pull(file, tmp_path / "a", manifest, options=options).read_bytes() == CONTENT
    (usb / "toy.pth").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(PullError, match="sha256"):
        pull(file, tmp_path / "b", manifest, options=options)


def test_a_file_url_is_not_fetched(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(PullError, match="only http"):
        pull(checkpoint("file:///etc/hostname"), tmp_path, manifest)


def test_commercial_mode_refuses_a_research_checkpoint_before_any_request(
    manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(LicenceError, match="not for commercial use"):
        pull(manifest.get("buffalo-l"), tmp_path, manifest)


def test_commercial_mode_knows_research_content_under_any_name(
    manifest: Manifest, tmp_path: Path
) -> None:
    stolen = manifest.research_only[1].sha256
    disguised = checkpoint("https://example.org/toy", sha256=stolen)
    with pytest.raises(LicenceError, match="w600k_r50"):
        pull(disguised, tmp_path, manifest)
    check_content(stolen, LicenceMode.RESEARCH, manifest)


def test_one_research_source_makes_the_whole_model_a_research_model(manifest: Manifest) -> None:
    clean = [manifest.get("auraface").sha256, manifest.get("sd15").sha256]
    assert mode_of_sources(clean, manifest) is LicenceMode.COMMERCIAL
    dirty = [*clean, manifest.get("ip-adapter-faceid").sha256]
    assert mode_of_sources(dirty, manifest) is LicenceMode.RESEARCH


def test_commercial_mode_refuses_to_serve_a_model_with_a_research_source(
    manifest: Manifest,
) -> None:
    research = manifest.get("ip-adapter-faceid").sha256
    own = {"upscaler": {"profile": "compact"}}
    clean = own | {"denoiser": {"source_sha256": manifest.get("sd15").sha256}}
    assert check_served(clean, LicenceMode.COMMERCIAL, manifest) is LicenceMode.COMMERCIAL
    dirty = clean | {"identity_projection": {"source_sha256": f"{'0' * 64},{research}"}}
    with pytest.raises(LicenceError, match="identity_projection"):
        check_served(dirty, LicenceMode.COMMERCIAL, manifest)
    assert check_served(dirty, LicenceMode.RESEARCH, manifest) is LicenceMode.RESEARCH


def test_a_model_that_says_it_is_for_research_is_one_whatever_its_hashes(
    manifest: Manifest,
) -> None:
    unknown = {"identity_encoder": {"source_sha256": "1" * 64, "licence_mode": "research"}}
    with pytest.raises(LicenceError, match="identity_encoder"):
        check_served(unknown, LicenceMode.COMMERCIAL, manifest)
    assert check_served(unknown, LicenceMode.RESEARCH, manifest) is LicenceMode.RESEARCH
