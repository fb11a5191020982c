"""The end of a gRPC server: no new calls, those that work run on, all others do not hold it up."""

from __future__ import annotations

import asyncio

import grpc

from headshot.api.interceptors.open_calls import OpenCalls
from headshot.telemetry.logs import get_logger

_log = get_logger(__name__)

# What calls that do no work get to end by themselves, for instance a reader of health to take the
# last status.
_LAST_WORDS_S = 1.0
# What the handlers of calls that were cut off get to end.
_UNWIND_S = 2.0


async def stop_server(server: grpc.aio.Server, calls: OpenCalls, grace_s: float) -> None:
    """Refuse new calls, let those that work end within `grace_s` seconds, cut off the rest.

    Returns when the handlers of the calls that were cut off have ended, too, or after two seconds
    more: until then they need all that they work with.
    """
    stopping = asyncio.ensure_future(server.stop(grace=grace_s))
    while not stopping.done():
        if working := calls.working:
            await asyncio.wait({stopping, *working}, return_when=asyncio.FIRST_COMPLETED)
            continue
        await asyncio.wait({stopping}, timeout=_LAST_WORDS_S)
        if not calls.working:
            break
    await server.stop(grace=None)
    await stopping
    if left := await calls.ended(_UNWIND_S):
        _log.warning("calls that were cut off have not ended", calls=left)
