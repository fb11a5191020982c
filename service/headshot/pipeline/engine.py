"""Runs the five models for the stages: Triton requests with their timings booked on the call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from headshot.deadline import Deadline
from headshot.pipeline.call import Call
from headshot.pipeline.workers import Workers
from headshot.telemetry.metrics import Metrics
from headshot.triton.client import InferenceClient
from headshot.triton.contracts import ModelSet
from headshot.triton.tensors import TensorSpec

Arrays = dict[str, NDArray[Any]]


class Engine:
    """What stages need to do their work: models, threads for pixels, metrics."""

    def __init__(
        self, client: InferenceClient, models: ModelSet, workers: Workers, metrics: Metrics
    ) -> None:
        self.client = client
        self.models = models
        self.workers = workers
        self.metrics = metrics

    def room(
        self, shape: tuple[int, ...], dtype: DTypeLike
    ) -> AbstractContextManager[NDArray[Any]]:
        """Lend an array, not yet filled, for an input that is sent more than once.

        What is filled in there is not copied for each request, see `InferenceClient.room`.
        """
        return self.client.room(TensorSpec(np.dtype(dtype), shape))

    async def infer(
        self,
        call: Call,
        stage: str,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        deadline: Deadline | None = None,
        urgent: bool = False,
    ) -> Arrays:
        """Run one model request and book its time on the call's stage.

        Args:
            call: the request it belongs to.
            stage: stage to book the time on.
            model: Triton's name of the model.
            inputs: arrays with a leading batch axis.
            deadline: a sooner deadline than the call's, or None.
            urgent: late and cheap, so that Triton shall serve it before other work.

        Returns:
            Outputs by name, with a leading batch axis.
        """
        result = await self.client.infer(
            model,
            inputs,
            deadline=deadline or call.deadline,
            priority=1 if urgent else call.priority,
            request_id=call.request_id,
            headers=call.headers,
        )
        timing = call.timing(stage)
        timing.queue_s += result.timings.queue_s
        timing.compute_s += result.timings.compute_s
        timing.wire_s += result.timings.wire_s
        timing.requests += 1
        timing.batch_rows += result.timings.batch_size
        call.executions.append(result.timings.execution)
        if model == "denoiser":
            self.metrics.observe_denoise_batch(result.timings.batch_size)
        return dict(result.outputs)
