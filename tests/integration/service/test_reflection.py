"""A client that knows nothing but server reflection can list and call the service."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "headshot.v1.HeadshotService"


@pytest.fixture
def reflected(gateway):
    """A pool of descriptors that come from the server alone, and a plain channel."""
    with grpc.insecure_channel(gateway.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        yield database, DescriptorPool(database), channel


async def run_in_thread(work):
    """The reflection client of the package is synchronous; the gateway runs in this loop."""
    return await asyncio.to_thread(work)


async def test_reflection_lists_the_service_health_and_itself(reflected):
    database, _, _ = reflected
    names = await run_in_thread(lambda: set(database.get_services()))
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names


async def test_reflection_is_enough_to_call_the_service(reflected):
    _, pool, channel = reflected

    def call():
        method = pool.FindServiceByName(SERVICE).FindMethodByName("GetServiceInfo")
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        stub = channel.unary_unary(
            f"/{SERVICE}/GetServiceInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return json_format.MessageToDict(stub(request(), timeout=20))

    info = await run_in_thread(call)
    assert info["profile"] == "compact"
    assert len(info["models"]) >= 5
