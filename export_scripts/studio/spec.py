"""What a studio model is: a torch module, its Triton tensors and its config parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn


class Precision(StrEnum):
    """Arithmetic of the exported graph; tensors on the wire keep their types."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The torch type of weights and activations."""
        return {
            Precision.FLOAT32: torch.float32,
            Precision.FLOAT16: torch.float16,
            Precision.BFLOAT16: torch.bfloat16,
        }[self]


TORCH_TYPES = {
    "UINT8": torch.uint8,
    "INT32": torch.int32,
    "FP16": torch.float16,
    "FP32": torch.float32,
}


@dataclass(frozen=True)
class Port:
    """One tensor of a Triton model, without its batch axis.

    Attributes:
        name: tensor name in the graph and on the wire.
        dtype: Triton type: UINT8, INT32, FP16 or FP32.
        dims: sizes; -1 where the size varies with the request; () for one scalar for each row,
            which travels as [batch, 1] and is reshaped to [batch].
    """

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class StudioModel:
    """One model of the studio repository.

    Attributes:
        name: model name in the repository.
        network: module in float32 whose forward takes and gives the tensors of the wire, batch
            first, and casts inside.
        inputs: input ports in forward order.
        outputs: output ports in forward order.
        example: gives seeded inputs for a batch size.
        parameters: `parameters` of config.pbtxt, beside `profile`.
        max_batch: largest batch that Triton forms.
        opt_batch: batch that TensorRT optimises for.
        precisions: arithmetic that the network holds; the first is the default for a GPU.
        sources: checkpoint names (manifest) that the weights come from; empty: random weights.
        wrap: for networks that exist as ONNX only: builds the graph instead of torch's exporter.
        queue_us: microseconds that the batcher may wait for more rows.
        unordered: the outputs are boxes, scores and landmarks sorted by score, whose near ties fall
            differently in 16 bits: parity then looks for each face in the reference's list.
    """

    name: str
    network: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    example: Callable[[int], tuple[Tensor, ...]]
    parameters: dict[str, str]
    max_batch: int
    opt_batch: int
    precisions: tuple[Precision, ...]
    sources: tuple[str, ...] = ()
    wrap: Callable[[Precision], bytes] | None = None
    queue_us: int = 1000
    unordered: bool = False


def seeded(seed: int = 7) -> torch.Generator:
    """Return a generator for example inputs and random weights."""
    return torch.Generator().manual_seed(seed)


def examples(
    ports: tuple[Port, ...], sizes: dict[str, tuple[int, ...]] | None = None
) -> Callable[[int], tuple[Tensor, ...]]:
    """Make an example-input function: uniform bytes for UINT8, normal noise for floats.

    Args:
        ports: the input ports.
        sizes: sizes to use where a port has -1.
    """

    def make(batch: int) -> tuple[Tensor, ...]:
        generator = seeded()
        tensors: list[Tensor] = []
        for port in ports:
            dims = (sizes or {}).get(port.name, port.dims)
            shape = (batch, *dims)
            dtype = TORCH_TYPES[port.dtype]
            if dtype is torch.uint8:
                tensors.append(torch.randint(0, 256, shape, dtype=dtype, generator=generator))
            elif dtype is torch.int32:
                tensors.append(torch.randint(0, 2, shape, dtype=dtype, generator=generator))
            else:
                tensors.append(torch.randn(shape, generator=generator).to(dtype))
        return tuple(tensors)

    return make
