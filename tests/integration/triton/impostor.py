"""A server that speaks Triton's protocol and misbehaves on purpose, for tests of the client.

It stands for a foreign server, which the client must survive, not for a part of this project.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Answer = Callable[[service_pb2.ModelInferRequest], service_pb2.ModelInferResponse]


@dataclass
class Impostor(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers `matting` as told.

    Attributes:
        answer: makes the response.
        hang: never answer inferences; health is answered.
        ready: what health says.
        calls: inferences that arrived.
        cancelled: inferences whose caller went away.
    """

    answer: Answer
    hang: bool = False
    ready: bool = True
    calls: int = 0
    cancelled: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def ServerReady(
        self, request: service_pb2.ServerReadyRequest, context: Context
    ) -> service_pb2.ServerReadyResponse:
        return service_pb2.ServerReadyResponse(ready=self.ready)

    async def ModelMetadata(
        self, request: service_pb2.ModelMetadataRequest, context: Context
    ) -> service_pb2.ModelMetadataResponse:
        response = service_pb2.ModelMetadataResponse(name="matting")
        response.outputs.add(name="alpha", datatype="UINT8", shape=[-1, 512, 512, 1])
        return response

    async def SystemSharedMemoryRegister(
        self,
        request: service_pb2.SystemSharedMemoryRegisterRequest,
        context: Context,
    ) -> service_pb2.SystemSharedMemoryRegisterResponse:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not on this host")

    async def ModelInfer(
        self, request: service_pb2.ModelInferRequest, context: Context
    ) -> service_pb2.ModelInferResponse:
        self.calls += 1
        self.arrived.set()
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self.answer(request)


@asynccontextmanager
async def serving(impostor: Impostor) -> AsyncIterator[str]:
    """Serve on a free loopback port and yield its `host:port`."""
    options = (("grpc.max_receive_message_length", 64 << 20),)
    server = grpc.aio.server(options=options)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(impostor, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def alpha(
    *, shape: tuple[int, ...] = (1, 512, 512, 1), datatype: str = "UINT8", size: int | None = None
) -> Answer:
    """Return an answer with an `alpha` of zeros in this shape, type and number of bytes."""

    def answer(request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
        response = service_pb2.ModelInferResponse(model_name="matting", id=request.id)
        response.outputs.add(name="alpha", datatype=datatype, shape=shape)
        count = 1
        for side in shape:
            count *= side
        response.raw_output_contents.append(bytes(count if size is None else size))
        return response

    return answer
