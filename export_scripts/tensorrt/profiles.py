"""Optimisation profiles from a model's config.pbtxt: smallest, usual and largest shapes."""

from __future__ import annotations

from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

Shape = tuple[int, ...]

# Sides of a free axis where the configuration says nothing (parameters profile_min/opt/max).
DEFAULT_SIDES = (64, 256, 640)
_USUAL_BATCH = 4


@dataclass(frozen=True)
class InputProfile:
    """Shapes of one network input, batch first."""

    name: str
    smallest: Shape
    usual: Shape
    largest: Shape

    @property
    def fixed(self) -> bool:
        """Whether all three are one shape."""
        return self.smallest == self.usual == self.largest


class ProfileError(ValueError):
    """A configuration that no profile can be made from."""


def batches(config: ModelConfig) -> tuple[int, int, int]:
    """Return the smallest, usual and largest batch.

    The usual one is the parameter `opt_batch`, else the largest preferred batch of the dynamic
    batcher, else 4; never above max_batch_size.

    Raises:
        ProfileError: a model that does not batch.
    """
    largest = config.max_batch_size
    if largest < 1:
        raise ProfileError(f"{config.name}: max_batch_size is {largest}, a batch axis is needed")
    usual = _USUAL_BATCH
    if config.dynamic_batching.preferred_batch_size:
        usual = max(config.dynamic_batching.preferred_batch_size)
    if "opt_batch" in config.parameters:
        usual = int(config.parameters["opt_batch"].string_value)
    return 1, max(1, min(usual, largest)), largest


def sides(config: ModelConfig) -> tuple[int, int, int]:
    """Return the smallest, usual and largest side of free axes, in pixels.

    Raises:
        ProfileError: sides that are not in order.
    """
    found = [
        int(config.parameters[key].string_value) if key in config.parameters else default
        for key, default in zip(
            ("profile_min", "profile_opt", "profile_max"), DEFAULT_SIDES, strict=True
        )
    ]
    if not 0 < found[0] <= found[1] <= found[2]:
        raise ProfileError(f"{config.name}: profile sides {found} are not in order")
    return found[0], found[1], found[2]


def profiles(config: ModelConfig) -> tuple[InputProfile, ...]:
    """Return the profile of every input, as the network (not the wire) sees it.

    A tensor with `reshape` has that shape in the network: `dims: [1] reshape { shape: [] }` is
    one scalar a row, so its profile is the batch alone.
    """
    batch = batches(config)
    side = sides(config)
    result = []
    for tensor in config.input:
        dims = tuple(tensor.reshape.shape) if tensor.HasField("reshape") else tuple(tensor.dims)
        shapes = [
            (rows, *(free if size == -1 else size for size in dims))
            for rows, free in zip(batch, side, strict=True)
        ]
        result.append(InputProfile(tensor.name, *shapes))
    return tuple(result)
