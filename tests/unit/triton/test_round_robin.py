"""One name with several addresses is balanced by the client, and connections may end of old age."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest
from headshot.deadline import Deadline
from headshot.triton.client import InferenceClient
from headshot.triton.endpoints import Endpoint, ProbeSettings
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.unit.triton.pods import Pod, infer, pod

OLD_AGE = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5000)]


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


async def both_used(client: InferenceClient, *pods: Pod) -> None:
    deadline = Deadline.after(20)
    while not all(one.begun for one in pods):
        deadline.check("connecting")
        await infer(client)
    for one in pods:
        one.begun = 0


async def test_the_death_of_one_server_behind_a_name_leaves_the_others_work_alone() -> None:
    async with (
        pod() as (stays, _, one),
        pod() as (dies, server, other),
        InferenceClient([f"ipv4:{one},{other}"]) as client,
    ):
        await both_used(client, stays, dies)
        stays.takes_s = dies.takes_s = 1.5
        work = [asyncio.create_task(infer(client)) for _ in range(8)]
        await asyncio.wait(work, timeout=0.5)
        own = stays.begun
        assert own + dies.begun == 8
        await server.stop(0)
        await asyncio.gather(*work)
        assert 0 < own < 8
        assert (stays.begun, stays.cancelled) == (8, 0)
        assert client.endpoints[0].ejections == 0


async def test_a_dead_model_at_one_server_behind_a_name_leaves_the_others_in_use() -> None:
    async with (
        pod() as (well, _, one),
        pod() as (ill, _, other),
        InferenceClient([f"ipv4:{one},{other}"]) as client,
    ):
        await both_used(client, well, ill)
        ill.broken = 1
        while ill.broken:
            await infer(client)
        assert client.endpoints[0].healthy
        assert not client.endpoints[0].held


async def test_work_waits_while_all_servers_behind_a_name_are_away() -> None:
    async with (
        pod() as (first, server, one),
        pod() as (second, other_server, other),
        InferenceClient([f"ipv4:{one},{other}"]) as client,
    ):
        await both_used(client, first, second)
        await server.stop(0)
        await other_server.stop(0)
        work = asyncio.create_task(infer(client))
        await asyncio.sleep(1.0)
        assert not work.done()
        async with pod(one):
            await work
        assert client.endpoints[0].ejections == 1
