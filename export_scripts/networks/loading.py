"""Networks with the weights of a file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file


def load_network(network: ModuleType, weights: Path) -> torch.nn.Module:
    """The network of a module with the weights of a safetensors file, in float32.

    Raises:
        RuntimeError: names or shapes of the weights do not fit the network.
    """
    net: torch.nn.Module = network.build()
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()}
    expected = net.state_dict()
    for name, value in expected.items():
        # Batch norms count their steps; the count plays no part in inference.
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, value)
    net.load_state_dict(state)
    return net.eval()
