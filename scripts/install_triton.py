"""Install the embedded Triton server into the cache folder, or find it there."""

from __future__ import annotations

from headshot.config import Settings
from headshot.triton.install import ensure_server

if __name__ == "__main__":
    ensure_server(Settings().triton_cache)
