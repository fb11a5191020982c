"""Whether this processor computes bfloat16 itself: elsewhere float32 is ten times faster."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

NATIVE = ("amx_bf16", "avx512_bf16")


def native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor has bfloat16 instructions; false where it cannot be known."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return any(flag in flags for flag in NATIVE)


@cache
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Return bfloat16 where the device (its type: cpu, cuda) computes it, else float32."""
    native = native_bfloat16() if device == "cpu" else torch.cuda.is_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def fast_autocast(device: str = "cpu") -> torch.autocast:
    """Return a context in which convolutions run in bfloat16 where that is faster."""
    return torch.autocast(device, torch.bfloat16, enabled=fast_dtype(device) is torch.bfloat16)
