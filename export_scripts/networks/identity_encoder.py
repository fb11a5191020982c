"""Identity encoder: a dense 3x3 residual network, 112x112 face to a 128-d unit vector.

The photo is folded 2x2 into channels at once and the trunk works at 28, 14 and 7 pixels, because
dense convolutions on few large maps are the slow part on a CPU. Inside a block the first
convolution carries the batch norm (it folds away at export); the second writes to the residual
stream with a plain bias. The head weighs every position of the last map on its own (global
depthwise convolution, MobileFaceNets, Chen et al. 2018).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

EMBEDDING_SIZE = 128
FACE_SIZE = 112
FOLD = 2
SLOPE = 0.2

INPUT_NAMES = ["face"]
OUTPUT_NAMES = ["embedding"]
DYNAMIC_AXES = {"face": {0: "batch"}, "embedding": {0: "batch"}}
OPSET = 17


class ConvPair(nn.Module):
    """3x3 convolution, batch norm, leaky ReLU, 3x3 convolution; with a shortcut if asked.

    ``[B, inputs, h, w]`` to ``[B, outputs, h / stride, w / stride]``.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, stride: int = 1, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, hidden, 3, stride, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(hidden)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.project = nn.Conv2d(hidden, outputs, 3, 1, 1)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.project(self.activation(self.norm(self.expand(x))))
        return x + y if self.shortcut else y


class Entry(nn.Module):
    """3x3 convolution, batch norm, leaky ReLU: ``[B, 12, 56, 56]`` to ``[B, outputs, 56, 56]``."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3 * FOLD * FOLD, outputs, 3, 1, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.activation(self.norm(self.expand(x)))
        return y


class Head(nn.Module):
    """``[B, 128, 7, 7]`` to the embedding before it is scaled to unit length, ``[B, 128]``."""

    def __init__(self, inputs: int = 128, hidden: int = 512) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(hidden)
        self.activation = nn.PReLU(hidden)
        self.pool_weight = nn.Parameter(torch.full((hidden, 7, 7), 1 / 49))
        self.project = nn.Linear(hidden, EMBEDDING_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.activation(self.norm(self.expand(x)))
        pooled = (y.float() * self.pool_weight).sum(dim=(2, 3))
        return functional.linear(pooled, self.project.weight, self.project.bias)


class IdentityEncoder(nn.Module):
    """Face ``[B, 3, 112, 112]``, RGB scaled to about [-1, 1], to embedding ``[B, 128]``.

    ``stages`` is the trunk cut at the points where training may compare or replace the map
    between two stages; the last stage is the head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Entry(32), ConvPair(32, 128, 64, 2)),
                ConvPair(64, 128, 64, shortcut=True),
                ConvPair(64, 128, 64, shortcut=True),
                ConvPair(64, 128, 128, 2),
                nn.Sequential(*[ConvPair(128, 128, 128, shortcut=True) for _ in range(2)]),
                nn.Sequential(*[ConvPair(128, 128, 128, shortcut=True) for _ in range(2)]),
                ConvPair(128, 256, 128, 2),
                ConvPair(128, 256, 128, shortcut=True),
                ConvPair(128, 256, 128, shortcut=True),
                Head(),
            ]
        )

    @staticmethod
    def fold(x: Tensor) -> Tensor:
        """``[B, 3, 112, 112]`` to ``[B, 12, 56, 56]``."""
        return functional.pixel_unshuffle(x, FOLD).contiguous(memory_format=torch.channels_last)

    def maps(self, x: Tensor, replaced: list[Tensor] | None = None) -> list[Tensor]:
        """Output of every stage; the last one is the embedding (not unit length).

        With ``replaced`` (one map for each stage but the last) every stage after the first reads
        its input from there, so that all stages learn at the same time from correct inputs.
        """
        outputs: list[Tensor] = []
        y = self.fold(x)
        for index, stage in enumerate(self.stages):
            outputs.append(stage(y))
            last = index == len(self.stages) - 1
            y = outputs[-1] if replaced is None or last else replaced[index]
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Embedding before it is scaled to unit length."""
        return self.maps(x)[-1]


class ServingModule(nn.Module):
    """The served graph: uint8 RGB ``[B, 112, 112, 3]`` to float32 unit vectors ``[B, 128]``.

    Normalisation is inside, batch norms are folded into the convolutions. The embedding is the sum
    of the face's and its mirror image's, each at unit length, scaled to unit length again: what the
    network sees differently in the two averages out.
    """

    def __init__(self, net: IdentityEncoder) -> None:
        super().__init__()
        self.net = fold_batch_norms(net)

    def forward(self, face: Tensor) -> Tensor:
        """See the class."""
        x = face.permute(0, 3, 1, 2).float() * (1 / 127.5) - 1.0
        return unit_length(unit_length(self.net(x)) + unit_length(self.net(x.flip(3))))


def unit_length(x: Tensor) -> Tensor:
    """Rows of ``[B, D]`` scaled to unit length."""
    lengths: Tensor = x.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return x.div(lengths)


def fold_batch_norms(net: IdentityEncoder) -> IdentityEncoder:
    """A copy in evaluation mode with every batch norm folded into the convolution before it."""
    folded = copy.deepcopy(net).eval()
    for module in folded.modules():
        if isinstance(module, Entry | ConvPair | Head) and isinstance(module.norm, nn.BatchNorm2d):
            module.expand = fuse_conv_bn_eval(module.expand, module.norm)
            module.norm = nn.Identity()
    return folded


def build() -> IdentityEncoder:
    """The network with fresh weights."""
    return IdentityEncoder()


def serving(net: nn.Module) -> nn.Module:
    """The graph that is exported, with the weights of ``net``."""
    assert isinstance(net, IdentityEncoder)
    return ServingModule(net).eval()


def example_inputs(batch: int) -> tuple[Tensor, ...]:
    """Random inputs of the served graph, seeded: uint8 ``[batch, 112, 112, 3]``."""
    generator = torch.Generator().manual_seed(20261121)
    shape = (batch, FACE_SIZE, FACE_SIZE, 3)
    return (torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),)
