"""One name with several addresses is balanced by the client, and connections may end of old age."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest
from headshot.triton.endpoints import Endpoint, ProbeSettings
from tritonclient.grpc import service_pb2, service_pb2_grpc

OLD_AGE = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5000)]


class Pod(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, name: int, served: Counter[int]) -> None:
        self.name, self.served = name, served

    async def ServerLive(self, request, context):
        self.served[self.name] += 1
        return service_pb2.ServerLiveResponse(live=True)


@pytest.fixture
async def pods(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, Counter[int]]]:
    """Two servers as the addresses of one name, and how many calls each has had."""
    served: Counter[int] = Counter()
    servers, addresses = [], []
    for name in range(2):
        server = grpc.aio.server(options=getattr(request, "param", []))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Pod(name, served), server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        servers.append(server)
    yield f"ipv4:{','.join(addresses)}", served
    for server in servers:
        await server.stop(0)


async def call(endpoint: Endpoint) -> None:
    await endpoint.stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=10, wait_for_ready=True)


async def test_calls_go_to_every_address_in_turn(pods: tuple[str, Counter[int]]) -> None:
    url, served = pods
    endpoint = Endpoint(url, ProbeSettings())
    while len(served) < 2:  # until both connections stand
        await call(endpoint)
    served.clear()
    for _ in range(40):
        await call(endpoint)
    assert sorted(served.values()) == [20, 20]
    await endpoint.channel.close()


@pytest.mark.parametrize("pods", [OLD_AGE], indirect=True, ids=["200ms"])
async def test_no_call_is_lost_when_connections_end_of_old_age(
    pods: tuple[str, Counter[int]],
) -> None:
    # The server's way (--grpc-max-connection-age) to make clients look for new pods.
    url, served = pods
    endpoint = Endpoint(url, ProbeSettings())
    start = time.monotonic()
    # Ten lifetimes of a connection, and on a busy machine as long as it takes both to be called.
    while (spent := time.monotonic() - start) < 2.0 or (
        spent < 30 and (len(served) < 2 or min(served.values()) <= 10)
    ):
        await call(endpoint)
    assert min(served.values()) > 10
    await endpoint.channel.close()
