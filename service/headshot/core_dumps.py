"""No core dumps: a crash in a decoder or a model must not put callers' photos on a disk."""

from __future__ import annotations

import resource

# Linux writes no dump file below a page, and passes no dump to a program (systemd-coredump, apport)
# at a limit of exactly 1. At 0 it would: for programs the limit means nothing else.
_NONE = 1


def forbid_core_dumps() -> None:
    """Let neither this process nor those that it starts dump core.

    A limit outlives exec, as PR_SET_DUMPABLE does not, so that it holds for Triton and its stub
    processes, too; and it leaves /proc of the process readable to its owner's tools.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # A limit of 0 that somebody set cannot be raised again, and lets no file be written either.
    least = _NONE if hard == resource.RLIM_INFINITY else min(_NONE, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))
