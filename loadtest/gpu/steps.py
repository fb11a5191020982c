"""Denoising steps of one shape, which a GPU replays as a captured graph."""

from __future__ import annotations

import torch
from torch import Tensor

from export_scripts.studio.networks.diffusion import Denoiser
from loadtest.gpu.network import example

_WARM_UP = 3


class Steps:
    """Makes steps of one network, one for each shape; their graphs share working memory.

    Steps of one object must run on one stream, one after the other.

    Args:
        network: what `build` returned.
        device: where it lies.
    """

    def __init__(self, network: Denoiser, device: str) -> None:
        self._network, self._device = network, device
        self._pool = torch.cuda.graph_pool_handle() if device == "cuda" else None
        # All are kept: a pool without a living graph must not be captured into.
        self._made: dict[tuple[int, int], Step] = {}

    def step(self, latent: int, rows: int) -> Step:
        """Return the step of a latent side and number of rows, captured where there is a GPU."""
        if (latent, rows) not in self._made:
            inputs = example(latent, rows, self._device)
            self._made[latent, rows] = Step(self._network, inputs, self._pool)
        return self._made[latent, rows]


class Step:
    """One shape's step.

    Attributes:
        inputs: tensors by name, to be filled in place before `run`.
        output: prediction float16 [rows, 4, h, w], until the next step of the same `Steps` runs.
    """

    def __init__(
        self, network: Denoiser, inputs: dict[str, Tensor], pool: tuple[int, int] | None
    ) -> None:
        self._network, self.inputs = network, inputs
        self._graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode():
            if pool is not None:
                self._graph = self._captured(pool)
            else:
                self.run()

    def run(self) -> None:
        """Run once; on a GPU this returns before the result is there."""
        with torch.inference_mode():
            if self._graph is not None:
                self._graph.replay()
            else:
                self.output = self._network(**self.inputs)

    def _captured(self, pool: tuple[int, int]) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._network(**self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            self.output = self._network(**self.inputs)
        torch.cuda.synchronize()
        return graph
