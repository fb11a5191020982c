"""What machine a figure was taken on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def _cpu() -> tuple[str, set[str]]:
    name, flags = platform.processor() or "unknown", set()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() == "flags":
                flags = set(value.split())
    return name, flags


def describe() -> dict[str, str]:
    """Return processor, cores, AMX and bf16, load and Python of this machine."""
    name, flags = _cpu()
    return {
        "processor": name,
        "cores": str(len(os.sched_getaffinity(0))),
        "AMX": "yes" if "amx_bf16" in flags else "no",
        "AVX512-BF16": "yes" if "avx512_bf16" in flags else "no",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }


def has_amx() -> bool:
    """Tell whether the processor has AMX bf16."""
    return "amx_bf16" in _cpu()[1]
