"""One CreateHeadshots call of the client, on threads of gRPC's own.

Not on asyncio: there a call that the server ends while messages are still being sent fails with
INTERNAL, "Internal error from Core", and the server's status and details are lost (grpcio 1.85).
The synchronous stub keeps them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc


async def outcomes(
    channel: grpc.Channel,
    settings: pb.TeamSettings,
    items: Iterable[pb.TeamItem],
    timeout_s: float,
    metadata: tuple[tuple[str, str], ...],
) -> AsyncGenerator[pb.CreateHeadshotsResponse, None]:
    """Make the call and yield each outcome as it comes.

    Args:
        channel: a synchronous one.
        settings: of the team.
        items: iterated over on another thread, as fast as the service takes them.
        timeout_s: of the whole call, seconds.
        metadata: of the call.

    Raises:
        grpc.RpcError: the call failed.
        Exception: what iterating over `items` raised; the call is ended then.
    """
    failed: list[Exception] = []
    begun = threading.Event()

    def messages() -> Iterator[pb.CreateHeadshotsRequest]:
        yield pb.CreateHeadshotsRequest(settings=settings)
        try:
            for item in items:
                yield pb.CreateHeadshotsRequest(item=item)
        except Exception as error:  # gRPC itself would log it and only cancel the call
            failed.append(error)
            begun.wait(timeout_s)
            call.cancel()

    stub: Any = headshot_service_pb2_grpc.HeadshotServiceStub(channel)  # type: ignore[no-untyped-call]
    call = stub.CreateHeadshots(messages(), timeout=timeout_s, metadata=metadata)
    begun.set()
    # A thread of the call's own: asyncio's few are for work that ends soon.
    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="create-headshots")
    loop = asyncio.get_running_loop()
    try:
        while (outcome := await loop.run_in_executor(reader, next, call, None)) is not None:
            yield outcome
    except grpc.RpcError:
        if failed:
            raise failed[0] from None
        raise
    finally:
        # Whoever stops reading wants no more of it; nothing happens to a finished call.
        call.cancel()
        reader.shutdown(wait=False)
