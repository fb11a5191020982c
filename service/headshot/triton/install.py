"""Find the Triton server on this machine, or install it from the package index.

The wheel `nvidia-pytriton` carries NVIDIA's tritonserver (Python backend only). It is installed,
hash-checked, into a cache folder and only its server is used. Nothing but the package index that
pip is configured for is contacted.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headshot.errors import ModelUnavailableError

_log = logging.getLogger(__name__)

_REQUIREMENTS = Path(__file__).with_name("server-requirements.txt")
_INSTALL_TIMEOUT_S = 600


class TritonInstallError(ModelUnavailableError):
    """The server cannot be installed or cannot run on this machine."""

    default_reason = "TRITON_INSTALL"


@dataclass(frozen=True)
class ServerInstallation:
    """Where the parts of an installed server lie.

    Attributes:
        binary: the tritonserver executable.
        python_backend: folder with libtriton_python.so and triton_python_backend_utils.py.
        stub: the Python backend's stub process for this interpreter's minor version.
        library_dirs: folders that LD_LIBRARY_PATH must hold, in order.
    """

    binary: Path
    python_backend: Path
    stub: Path
    library_dirs: tuple[Path, ...]


def default_cache_dir() -> Path:
    """Return HEADSHOT_CACHE, else the user's cache folder for headshot."""
    chosen = os.environ.get("HEADSHOT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headshot"


def ensure_server(cache_dir: Path | None = None) -> ServerInstallation:
    """Return an installed server, installing it first when the cache has none.

    Safe to call from several processes at once: one installs, the others wait.

    Args:
        cache_dir: folder to hold the installation; `default_cache_dir()` when None.

    Raises:
        TritonInstallError: unsupported machine, no index, a wrong hash, or no libpython.
    """
    _check_platform()
    cache = (cache_dir or default_cache_dir()).resolve()
    target = cache / f"triton-{_pin_digest()}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "triton.lock"):
            if not target.is_dir():
                _install(target)
    return _locate(target)


def _pin_digest() -> str:
    # A new pin is a new folder, so an upgrade never mixes two versions.
    return hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]


def _check_platform() -> None:
    machine = (platform.system(), platform.machine())
    if machine != ("Linux", "x86_64"):
        raise TritonInstallError(
            f"the embedded Triton server runs on Linux x86-64 only, this is {machine[0]} "
            f"{machine[1]}; start a Triton server elsewhere and pass --triton-url"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield  # closing the file drops the lock


def _install(target: Path) -> None:
    _log.info("installing the Triton server (55 MB, once) into %s", target)
    staging = Path(tempfile.mkdtemp(prefix=".triton-", dir=target.parent))
    try:
        command = [*_installer(), "--no-deps", "--require-hashes", "--target", str(staging)]
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [*command, "-r", str(_REQUIREMENTS)],
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise TritonInstallError(f"pip could not install the Triton server: {last}")
        # Wheels made by auditwheel lose the executable bit of files outside bin/.
        for path in _executables(staging):
            path.chmod(0o755)
        staging.chmod(0o755)
        staging.rename(target)
    except subprocess.TimeoutExpired as error:
        raise TritonInstallError(
            f"installing the Triton server took longer than {_INSTALL_TIMEOUT_S} s; "
            "check the package index that pip is configured for"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _log.info("the Triton server is installed")


def _installer() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise TritonInstallError("neither pip nor uv is here to install the Triton server with")


def _executables(root: Path) -> list[Path]:
    server = root / "pytriton" / "tritonserver"
    return [server / "bin" / "tritonserver", *server.glob("python_backend_stubs/*/*")]


def _locate(root: Path) -> ServerInstallation:
    server = root / "pytriton" / "tritonserver"
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / minor / "triton_python_backend_stub"
    libraries = root / "nvidia_pytriton.libs"
    found = ServerInstallation(
        binary=server / "bin" / "tritonserver",
        python_backend=server / "backends" / "python",
        stub=stub,
        library_dirs=(libraries, *_libpython_dirs()),
    )
    for path in (found.binary, found.python_backend / "libtriton_python.so", libraries):
        if not path.exists():
            raise TritonInstallError(
                f"the Triton installation is damaged ({path.name} is missing): "
                f"delete {root} and start again"
            )
    if not stub.exists():
        raise TritonInstallError(f"this Triton server has no Python {minor} backend; use 3.11-3.13")
    missing = _missing_libraries(found)
    if missing:
        raise TritonInstallError(
            f"the Triton server needs {', '.join(missing)}, which this Python was built without: "
            f"install the system's libpython{minor} or use a Python built with --enable-shared"
        )
    return found


def _libpython_dirs() -> tuple[Path, ...]:
    # The stub embeds libpython; a pyenv or uv Python keeps it outside the loader's search path.
    where = sysconfig.get_config_var("LIBDIR")
    name = sysconfig.get_config_var("INSTSONAME")
    if where and name and (Path(where) / name).exists():
        return (Path(where),)
    return ()


def _missing_libraries(found: ServerInstallation) -> list[str]:
    ldd = shutil.which("ldd")
    if ldd is None:
        return []
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, found.library_dirs))}
    listing = subprocess.run(  # noqa: S603 - fixed arguments, no shell
        [ldd, str(found.stub)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        check=False,
    ).stdout
    return [line.split()[0] for line in listing.splitlines() if "not found" in line]
