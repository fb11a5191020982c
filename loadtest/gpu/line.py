"""Two batches under way: while the card computes one, the next is copied and enqueued."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

import torch
from torch import Tensor

from loadtest.gpu.steps import Step

_UNDER_WAY = 2

Rows = Mapping[str, Tensor]
Answer = Callable[[Tensor], None]


class _Slot:
    """Host memory of one batch, page-locked on a GPU so that copies wait for nobody."""

    def __init__(self, step: Step) -> None:
        pinned = step.output.is_cuda
        self.inputs = {name: _host(tensor, pinned=pinned) for name, tensor in step.inputs.items()}
        self.output = _host(step.output, pinned=pinned)


@dataclass(frozen=True)
class _Job:
    slot: _Slot
    computed: torch.cuda.Event | None
    rows: int
    answer: Answer


class Line:
    """Runs batches of one shape in order, and answers them in order on a thread.

    Args:
        step: the shape; no one else may run it.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for _ in range(_UNDER_WAY):
            self._free.put(_Slot(step))
        self._thread = Thread(target=self._answer_all, name="answers", daemon=True)
        self._thread.start()

    def submit(self, parts: Sequence[Rows], answer: Answer) -> None:
        """Enqueue a batch; waits while two are under way.

        Args:
            parts: inputs by name of each request, together at most the step's rows.
            answer: gets the prediction of all rows on the host, valid until it returns.
        """
        slot = self._free.get()
        done = 0
        for part in parts:
            rows = part["sample"].shape[0]
            for name, tensor in part.items():
                slot.inputs[name][done : done + rows] = tensor
            done += rows
        # Rows beyond `done` hold what an earlier batch left there; nobody is answered with them.
        for name, tensor in slot.inputs.items():
            self._step.inputs[name].copy_(tensor, non_blocking=True)
        self._step.run()
        slot.output.copy_(self._step.output, non_blocking=True)
        computed = None
        if self._step.output.is_cuda:
            computed = torch.cuda.Event()
            computed.record()
        self._jobs.put(_Job(slot, computed, done, answer))

    def close(self) -> None:
        """Answer what is under way and end."""
        self._jobs.put(None)
        self._thread.join()

    def _answer_all(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.computed is not None:
                job.computed.synchronize()
            job.answer(job.slot.output[: job.rows])
            self._free.put(job.slot)
            # Not kept until the next comes: its requests are Triton's again.
            del job


def _host(tensor: Tensor, *, pinned: bool) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
