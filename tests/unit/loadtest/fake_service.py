"""A HeadshotService that answers at once, for tests of the load generator."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc


class FakeServicer(headshot_service_pb2_grpc.HeadshotServiceServicer):
    """Answers Matte and Verify, refuses the second item of each team.

    Args:
        takes_s: seconds of a matte.
        most: mattes at once; more are refused.

    Attributes:
        callers: calls by (RPC, authorization).
        at_once: most mattes that were under way together.
    """

    def __init__(self, takes_s: float = 0.0, most: int = 1000) -> None:
        self.callers: Counter[tuple[str, str]] = Counter()
        self.at_once = 0
        self._takes_s = takes_s
        self._most = most
        self._open = 0

    def _note(self, rpc: str, context: grpc.aio.ServicerContext) -> None:
        sent = dict(context.invocation_metadata() or ())
        self.callers[rpc, str(sent.get("authorization", ""))] += 1

    async def Matte(self, request, context):
        self._note("Matte", context)
        self._open += 1
        self.at_once = max(self.at_once, self._open)
        try:
            if self._open > self._most:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            await asyncio.sleep(self._takes_s)
        finally:
            self._open -= 1
        return pb.MatteResponse()

    async def Verify(self, request, context):
        self._note("Verify", context)
        await asyncio.sleep(10 * self._takes_s)
        return pb.VerifyResponse()

    async def CreateHeadshots(self, requests, context):
        self._note("CreateHeadshots", context)
        refused = status_pb2.Status(code=8, message="full")
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason="QUEUE_FULL"))
        refused.details.append(detail)
        async for request in requests:
            item = request.item.item_id
            if item == "m1":
                yield pb.CreateHeadshotsResponse(item_id=item, error=refused)
            elif item:
                yield pb.CreateHeadshotsResponse(item_id=item, result=pb.HeadshotResult())


@asynccontextmanager
async def serving(
    servicer: FakeServicer, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """Serve on a free port of localhost; yield host:port."""
    server = grpc.aio.server()
    headshot_service_pb2_grpc.add_HeadshotServiceServicer_to_server(servicer, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(0)
