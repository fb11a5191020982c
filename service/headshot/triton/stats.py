"""Triton's own statistics of its models, over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from tritonclient.grpc import service_pb2

from headshot.triton.endpoints import Endpoint
from headshot.triton.failures import unavailable


@dataclass(frozen=True)
class ModelStatistics:
    """Counters of one model on one server since it started; differences of two are a period.

    Attributes:
        inference_count: rows computed.
        execution_count: batches computed.
        success_count, fail_count: requests by outcome.
        queue_s, compute_s: seconds summed over the successful requests.
        batches: executions by batch size.
    """

    inference_count: int = 0
    execution_count: int = 0
    success_count: int = 0
    fail_count: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0
    batches: Mapping[int, int] = field(default_factory=dict)

    def since(self, earlier: ModelStatistics) -> ModelStatistics:
        """Return the counts between an earlier reading and this one."""
        return ModelStatistics(
            self.inference_count - earlier.inference_count,
            self.execution_count - earlier.execution_count,
            self.success_count - earlier.success_count,
            self.fail_count - earlier.fail_count,
            self.queue_s - earlier.queue_s,
            self.compute_s - earlier.compute_s,
            {
                size: count - earlier.batches.get(size, 0)
                for size, count in self.batches.items()
                if count != earlier.batches.get(size, 0)
            },
        )

    @property
    def mean_batch(self) -> float:
        """Rows of an average execution; 0 before the first."""
        return self.inference_count / self.execution_count if self.execution_count else 0.0


@dataclass(frozen=True)
class Averages:
    """Means of a model's requests over a period: seconds of queue and compute, rows of a batch."""

    queue_s: float
    compute_s: float
    batch: float


class StatisticsWindow:
    """Averages of each model on each server between the last two readings.

    For servers whose backends report no facts of each execution, such as NVIDIA's own.
    """

    def __init__(self) -> None:
        self._readings: dict[tuple[str, str], ModelStatistics] = {}
        self._averages: dict[tuple[str, str], Averages] = {}

    def update(self, url: str, reading: Mapping[str, ModelStatistics]) -> None:
        """Take a reading of one server; a server that started again starts over."""
        for model, now in reading.items():
            period = now.since(self._readings.get((url, model), ModelStatistics()))
            if period.success_count < 0:
                period = now
            if period.success_count > 0:
                self._averages[url, model] = Averages(
                    period.queue_s / period.success_count,
                    period.compute_s / period.success_count,
                    period.mean_batch,
                )
            self._readings[url, model] = now

    def averages(self, url: str, model: str) -> Averages | None:
        """Return the model's latest averages on that server, or None before the first."""
        return self._averages.get((url, model))


async def read_statistics(endpoint: Endpoint, timeout_s: float = 2.0) -> dict[str, ModelStatistics]:
    """Return the statistics of every model on one server, by name, versions added up.

    Raises:
        ModelUnavailableError: the server does not answer.
    """
    try:
        answer = await endpoint.stub.ModelStatistics(
            service_pb2.ModelStatisticsRequest(), timeout=timeout_s
        )
    except grpc.aio.AioRpcError as error:
        raise unavailable("the statistics", error.code().name) from error
    found: dict[str, ModelStatistics] = {}
    for entry in answer.model_stats:
        if entry.name not in found:  # `latest(1)`: one version is served
            found[entry.name] = _from_proto(entry)
    return found


def _from_proto(entry: service_pb2.ModelStatistics) -> ModelStatistics:
    kinds = entry.inference_stats
    return ModelStatistics(
        inference_count=entry.inference_count,
        execution_count=entry.execution_count,
        success_count=kinds.success.count,
        fail_count=kinds.fail.count,
        queue_s=kinds.queue.ns / 1e9,
        compute_s=(kinds.compute_input.ns + kinds.compute_infer.ns + kinds.compute_output.ns) / 1e9,
        batches={one.batch_size: one.compute_infer.count for one in entry.batch_stats},
    )
