"""A wire with faults: stands between the gateway and a real Triton and passes everything on.

It answers late, or changes the shapes in the answers, when told to; otherwise bytes go through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_INFER = "/inference.GRPCInferenceService/ModelInfer"


class FaultyWire(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Passes unary calls on to `target`.

    Attributes:
        delay_s: seconds each inference waits before it is passed on.
        garbage: True swaps and enlarges the shapes of every inference's outputs.
        inferences: how many inferences went through.
    """

    def __init__(self, target: str) -> None:
        self._channel: Any = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self.delay_s = 0.0
        self.garbage = False
        self.inferences = 0

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def forward(request: bytes, context: Any) -> bytes:
            if method == _INFER:
                self.inferences += 1
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
            timeout = context.time_remaining()
            try:
                answer: bytes = await self._channel.unary_unary(method)(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
            if method == _INFER and self.garbage:
                answer = _with_other_shapes(answer)
            return answer

        return grpc.unary_unary_rpc_method_handler(forward)

    async def close(self) -> None:
        await self._channel.close()


def _with_other_shapes(answer: bytes) -> bytes:
    """Return the answer with every output's shape transposed and its last side doubled."""
    response = service_pb2.ModelInferResponse.FromString(answer)
    for output in response.outputs:
        shape = list(output.shape)
        output.ClearField("shape")
        output.shape.extend([shape[0], *reversed(shape[1:-1]), 2 * shape[-1]])
    return bytes(response.SerializeToString())


@asynccontextmanager
async def faulty_wire(target: str) -> AsyncIterator[tuple[FaultyWire, str]]:
    """Serve a wire to `target` for the length of the block; yield it and its address."""
    wire = FaultyWire(target)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((wire,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield wire, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        await wire.close()
