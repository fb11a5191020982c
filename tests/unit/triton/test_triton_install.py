"""Installing the server: pinned by hash, all or nothing, clear about what is missing."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from headshot.triton import install
from headshot.triton.install import TritonInstallError, default_cache_dir, ensure_server


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A tiny package that stands in the server's place on a local index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "tinyserver-1.0-py3-none-any.whl"
    info = "tinyserver-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pytriton/tritonserver/bin/tritonserver", "#!/bin/sh\n")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyserver\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def pinned(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requirements that pin the tiny package by its right hash."""
    command = [sys.executable, "-m", "pip", "hash", str(wheel)]
    digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    path = tmp_path / "requirements.txt"
    path.write_text(f"--no-index\n--find-links {wheel.parent}\ntinyserver==1.0 {digest}\n")
    monkeypatch.setattr(install, "_REQUIREMENTS", path)
    return path


def test_the_server_is_pinned_by_version_and_hash() -> None:
    text = install._REQUIREMENTS.read_text()
    assert "nvidia-pytriton==0.7.0" in text
    assert "--hash=sha256:" in text


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(
    pinned: Path, tmp_path: Path
) -> None:
    text = pinned.read_text()
    start = text.index("sha256:") + len("sha256:")
    pinned.write_text(text[:start] + "0" * 64 + "\n")
    cache = tmp_path / "cache"
    with pytest.raises(TritonInstallError, match="could not install"):
        ensure_server(cache)
    assert [path.name for path in cache.iterdir()] == ["triton.lock"]


def test_a_missing_package_is_refused_and_leaves_nothing(pinned: Path, tmp_path: Path) -> None:
    pinned.write_text(pinned.read_text().replace("tinyserver==1.0", "tinyserver==2.0"))
    cache = tmp_path / "cache"
    with pytest.raises(TritonInstallError):
        ensure_server(cache)
    assert [path.name for path in cache.iterdir()] == ["triton.lock"]


def test_a_damaged_installation_says_what_to_delete(pinned: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(TritonInstallError, match="damaged") as raised:
        ensure_server(cache)
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert str(folder) in raised.value.message
    binary = folder / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    assert binary.stat().st_mode & 0o111


def test_another_platform_is_told_to_use_a_server_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("headshot.triton.install.platform.system", lambda: "Darwin")
    with pytest.raises(TritonInstallError, match="--triton-url"):
        ensure_server(tmp_path)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHOT_CACHE", "/somewhere/else")
    assert default_cache_dir() == Path("/somewhere/else")
    monkeypatch.delenv("HEADSHOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_dir() == Path("/xdg/headshot")
