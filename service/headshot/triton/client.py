"""Inference over one or several Triton servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from headshot.deadline import Deadline
from headshot.errors import ModelUnavailableError
from headshot.triton.endpoints import Endpoint, EndpointCheck, EndpointPool, Flight, ProbeSettings
from headshot.triton.facts import FactsReader, tagged_request_id
from headshot.triton.failures import Failure, classify, deadline_passed, unavailable
from headshot.triton.shared_memory import Lease, SharedMemoryPool
from headshot.triton.stats import ModelStatistics, StatisticsWindow, read_statistics
from headshot.triton.tensors import (
    Array,
    OutputContract,
    TensorSpec,
    add_inputs,
    batch_of,
    dtype_of,
    read_outputs,
)
from headshot.triton.timings import InferTimings, PathClock, estimated

_PAUSE_S = 0.1
_SAMPLE_S = 1.0


class _AbandonedError(Exception):
    """The endpoint was ejected while the call was under way."""


@dataclass(frozen=True)
class ClientSettings:
    """How hard the client tries.

    Attributes:
        call_timeout_s: longest wait for one call; a server that takes longer counts as hanging.
        attempts: most calls for one inference, counting the first.
        recovery_wait_s: longest wait for an endpoint to come back when none is healthy.
        probes: how endpoints are watched.
    """

    call_timeout_s: float = 30.0
    attempts: int = 4
    recovery_wait_s: float = 30.0
    probes: ProbeSettings = field(default_factory=ProbeSettings)


@dataclass(frozen=True)
class InferResult:
    """One checked answer.

    Attributes:
        outputs: read-only arrays by output name, batch axis first.
        timings: where the time went.
        endpoint: the server that computed it.
    """

    outputs: dict[str, Array]
    timings: InferTimings
    endpoint: str


class InferenceClient:
    """Sends inferences to the healthy server with the least under way.

    Use as an async context manager, or call `close()`. One client serves the whole process.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        settings: ClientSettings | None = None,
        facts_dir: Path | None = None,
        shared_memory: bool = True,
    ) -> None:
        """Connect lazily.

        Args:
            urls: `host:port` of each Triton gRPC endpoint, or `dns:///name:port` for all servers
                behind a name.
            settings: timeouts and attempts.
            facts_dir: `EmbeddedTriton.facts_dir`, for exact timings of each request.
            shared_memory: move large tensors through shared memory with servers that allow it.
        """
        self._settings = settings or ClientSettings()
        self._pool = EndpointPool(urls, self._settings.probes)
        self._facts = FactsReader(facts_dir) if facts_dir is not None else None
        self._paths = PathClock()
        self.shared_memory = SharedMemoryPool() if shared_memory else None
        self._window = StatisticsWindow()
        self._unmeasured: set[Endpoint] = set()
        self._sampler: asyncio.Task[None] | None = None
        self._contracts: dict[str, OutputContract] = {}

    async def __aenter__(self) -> InferenceClient:
        self._start()
        return self

    def _start(self) -> None:
        self._pool.start()
        if self._sampler is None:
            self._sampler = asyncio.create_task(self._sample(), name="triton-statistics")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        if self._sampler is not None:
            self._sampler.cancel()
            await asyncio.wait([self._sampler])
            self._sampler = None
        if self.shared_memory is not None:
            await self.shared_memory.unregister(self.endpoints)
        await self._pool.close()
        if self.shared_memory is not None:
            self.shared_memory.close()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, healthy or not."""
        return self._pool.endpoints

    def set_contract(self, model: str, contract: OutputContract) -> None:
        """Check every answer of `model` against `contract` instead of the server's metadata."""
        self._contracts[model] = contract

    def verify_restored(self, check: EndpointCheck) -> None:
        """Let `check` decide whether a server that came back may get work again."""
        self._pool.check = check

    async def statistics(self) -> dict[str, dict[str, ModelStatistics]]:
        """Return {endpoint url: {model: statistics}} of the servers that answer."""
        readings = await asyncio.gather(
            *(read_statistics(endpoint) for endpoint in self.endpoints), return_exceptions=True
        )
        return {
            endpoint.url: reading
            for endpoint, reading in zip(self.endpoints, readings, strict=True)
            if not isinstance(reading, BaseException)
        }

    def room(self, spec: TensorSpec) -> AbstractContextManager[Array]:
        """Lend an array, not yet filled, for an input that is sent more than once.

        In shared memory where there is some (`SharedMemoryPool.room`). It may be filled anew when a
        request has its answer; what others still read of it then, nobody awaits.
        """
        if self.shared_memory is None:
            return contextlib.nullcontext(np.empty(spec.shape, spec.dtype))
        return self.shared_memory.room(spec)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        deadline: Deadline,
        priority: int = 0,
        request_id: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> InferResult:
        """Run a model; cancelling the task cancels the work.

        An inference is stateless, so it is sent again to another server (or to the same one after
        it came back) when a server dies, hangs or loses its model, within the deadline.

        Args:
            model: name of the model.
            inputs: arrays by input name, batch axis first, C-contiguous.
            deadline: the caller's deadline; Triton drops the request from its queue at it.
            priority: 1 is the highest, 0 the model's default.
            request_id: for Triton's logs and traces.
            headers: gRPC metadata, such as `traceparent`.

        Raises:
            DeadlineError: the deadline passed, here or in Triton's queue.
            OverloadedError: the model's queue is full.
            ModelUnavailableError: no server could serve it.
            ModelContractError: the answer, or the request, is not what the contract says.
            ModelExecutionError: the model failed.
        """
        self._start()
        tried: list[Endpoint] = []
        failure: Failure | None = None
        for attempt in range(self._settings.attempts):
            endpoint = await self._endpoint(model, deadline, tried)
            result, failure = await self._attempt(
                endpoint, model, inputs, deadline, priority, request_id, headers
            )
            if result is not None:
                endpoint.succeeded()
                return result
            assert failure is not None
            if failure.unhealthy:
                await endpoint.disconnected()
            if failure.broken:
                endpoint.broke()
            if failure.slow:
                endpoint.timed_out()
            if not failure.elsewhere:
                break
            if endpoint in tried:  # the second time round: give it a moment
                await asyncio.sleep(min(_PAUSE_S * attempt, deadline.remaining()))
            tried.append(endpoint)
        assert failure is not None
        raise failure.error

    async def _endpoint(self, model: str, deadline: Deadline, tried: list[Endpoint]) -> Endpoint:
        deadline.check(model)
        endpoint = self._pool.choose(avoid=tried)
        if endpoint is None:
            # All were tried or are out of use: whichever is healthy again may serve.
            wait = min(self._settings.recovery_wait_s, deadline.remaining())
            if not await self._pool.wait_restored(wait):
                deadline.check(model)
                raise unavailable(model, "no server is ready")
            endpoint = self._pool.choose()
        if endpoint is None:
            raise unavailable(model, "no server is ready")
        return endpoint

    async def _attempt(
        self,
        endpoint: Endpoint,
        model: str,
        inputs: Mapping[str, Array],
        deadline: Deadline,
        priority: int,
        request_id: str,
        headers: Mapping[str, str] | None,
    ) -> tuple[InferResult | None, Failure | None]:
        sent_ns = time.monotonic_ns()
        remaining = deadline.remaining()
        if remaining <= 0:
            return None, Failure(deadline_passed(model))
        timeout = min(remaining, self._settings.call_timeout_s)
        request = service_pb2.ModelInferRequest(model_name=model)
        request.id, key = tagged_request_id(request_id)
        request.parameters["timeout"].int64_param = int(remaining * 1e6)
        if priority:
            request.parameters["priority"].uint64_param = priority
        lease = Lease()
        try:
            contract = self._contracts.get(model) or await self._learn(endpoint, model, timeout)
            expected = contract(inputs)
            if self.shared_memory is not None:
                lease = await self.shared_memory.lease(endpoint, inputs, expected, deadline)
                # Registering may have taken of the time.
                remaining = max(0.0, deadline.remaining())
                timeout = min(remaining, timeout)
                request.parameters["timeout"].int64_param = max(1, int(remaining * 1e6))
            add_inputs(request, inputs, elsewhere=lease.inputs)
            lease.refer(request, expected)
            response = await self._send(endpoint, request, timeout, headers)
        except grpc.aio.AioRpcError as error:
            failure = classify(error, model, deadline_expired=deadline.expired)
            lease.close(endpoint, model, ended=failure.ended)
            if failure.forgotten and self.shared_memory is not None:
                self.shared_memory.forget(endpoint)
            return None, failure
        except _AbandonedError:
            lease.close(endpoint, model, ended=False)
            return None, Failure(unavailable(model, "its server hangs"), elsewhere=True)
        except BaseException:
            lease.close(endpoint, model, ended=False)
            raise
        views = lease.views()
        lease.close(endpoint, model, ended=True)
        if self.shared_memory is not None:
            self.shared_memory.answered(endpoint, model, sent_ns / 1e9)
        outputs = read_outputs(response, expected, views)
        size = sum(array.nbytes for array in inputs.values())
        timings = self._timings(endpoint, model, size, sent_ns, key)
        return InferResult(outputs, timings, endpoint.url), None

    async def _send(
        self,
        endpoint: Endpoint,
        request: service_pb2.ModelInferRequest,
        timeout_s: float,
        headers: Mapping[str, str] | None,
    ) -> service_pb2.ModelInferResponse:
        metadata = tuple(headers.items()) if headers else None
        call = endpoint.stub.ModelInfer(request, timeout=timeout_s, metadata=metadata)
        flight = Flight(call)
        endpoint.flights.add(flight)
        try:
            return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if flight.abandoned and not (task and task.cancelling()):
                raise _AbandonedError from None
            raise
        finally:
            endpoint.flights.discard(flight)

    def _timings(
        self, endpoint: Endpoint, model: str, size: int, sent_ns: int, key: int
    ) -> InferTimings:
        now = time.monotonic_ns()
        facts = self._facts.find(model, key) if self._facts is not None else None
        if facts is not None:
            timings = self._paths.split(endpoint.url, model, size, sent_ns, now, facts)
            if timings is not None:
                return timings
        self._unmeasured.add(endpoint)
        return estimated(sent_ns, now, self._window.averages(endpoint.url, model))

    async def _sample(self) -> None:
        """Read the statistics of servers that answered without facts since the last reading.

        Shared memory is swept at the same pace.
        """
        while True:
            await asyncio.sleep(_SAMPLE_S)
            if self.shared_memory is not None:
                self.shared_memory.sweep()
            endpoints, self._unmeasured = self._unmeasured, set()
            for endpoint in endpoints:
                with contextlib.suppress(ModelUnavailableError):
                    self._window.update(endpoint.url, await read_statistics(endpoint))

    async def _learn(self, endpoint: Endpoint, model: str, timeout_s: float) -> OutputContract:
        """Return the contract that the server's own metadata states, and remember it."""
        request = service_pb2.ModelMetadataRequest(name=model)
        metadata = await endpoint.stub.ModelMetadata(request, timeout=timeout_s)
        specs = {
            output.name: TensorSpec(dtype_of(output.datatype), tuple(output.shape))
            for output in metadata.outputs
        }

        def contract(inputs: Mapping[str, Array]) -> Mapping[str, TensorSpec]:
            rows = batch_of(inputs)
            return {
                name: TensorSpec(spec.dtype, (rows, *spec.shape[1:]))
                for name, spec in specs.items()
            }

        self._contracts[model] = contract
        return contract
