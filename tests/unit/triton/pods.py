"""Servers that answer as Triton does, without any model: tests make them slow, broken or busy."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np
from headshot.deadline import Deadline
from headshot.triton.client import InferenceClient, InferResult
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Pod(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers probes, and inferences after `takes_s`; the first `broken` find a dead process.

    Attributes:
        begun, cancelled: inferences.
        probes: questions whether it is ready.
        timeouts: microseconds that each inference may wait in the queue.
    """

    def __init__(self, name: int, served: Counter[int]) -> None:
        self.name, self.served = name, served
        self.takes_s, self.broken = 0.0, 0
        self.begun, self.cancelled, self.probes = 0, 0, 0
        self.timeouts: list[int] = []

    async def ServerLive(self, request, context):
        self.served[self.name] += 1
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request, context):
        self.probes += 1
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelMetadata(self, request, context):
        answer = service_pb2.ModelMetadataResponse(name=request.name)
        answer.outputs.add(name="y", datatype="FP32", shape=[-1, 1])
        return answer

    async def ModelInfer(self, request, context):
        self.begun += 1
        self.timeouts.append(request.parameters["timeout"].int64_param)
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.broken:
            self.broken -= 1
            await context.abort(grpc.StatusCode.INTERNAL, "Stub process is not healthy")
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="y", datatype="FP32", shape=[1, 1])
        answer.raw_output_contents.append(bytes(4))
        return answer


@asynccontextmanager
async def pod(
    address: str = "127.0.0.1:0", made: Pod | None = None
) -> AsyncIterator[tuple[Pod, grpc.aio.Server, str]]:
    """Serve one pod; yield it, its server and its address."""
    made = made or Pod(0, Counter())
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(made, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield made, server, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def infer(client: InferenceClient, patience_s: float = 20.0) -> InferResult:
    """Run the pods' model once."""
    ones = {"x": np.ones((1, 1), np.float32)}
    return await client.infer("model", ones, deadline=Deadline.after(patience_s))
