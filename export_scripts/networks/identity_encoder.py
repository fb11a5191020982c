"""Identity encoder: inverted bottlenecks, 112x112 face to a 128-d unit vector.

The family of MobileFaceNets (Chen et al., 2018), half as wide again inside the blocks: every block
widens, looks at 3x3 places a channel, narrows, and adds to the stream. The head weighs
every position of the last map on its own (global depthwise convolution). The seams between the
blocks have the teacher's sizes, so that every block can learn alone from the teacher's map before
it (training/identity_encoder.py). Batch norms fold away at export.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export_scripts.networks.layers import BatchNorm

EMBEDDING_SIZE = 128
FACE_SIZE = 112

INPUT_NAMES = ["face"]
OUTPUT_NAMES = ["embedding"]
DYNAMIC_AXES = {"face": {0: "batch"}, "embedding": {0: "batch"}}
OPSET = 17


class Layer(nn.Module):
    """Convolution, batch norm, PReLU: ``[B, inputs, h, w]`` to ``[B, outputs, h / s, w / s]``.

    ``size`` is the kernel's; ``depthwise`` gives every channel a kernel of its own.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, *, depthwise: bool = False
    ) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.convolution = nn.Conv2d(
            inputs, outputs, size, stride, size // 2, groups=groups, bias=False
        )
        self.norm: nn.Module = BatchNorm(outputs)
        self.activation = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.activation(self.norm(self.convolution(x)))
        return y


class Bottleneck(nn.Module):
    """Widen, look around, narrow; added to the input where ``stride`` is 1 and the sizes agree."""

    def __init__(self, inputs: int, wide: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.widen = Layer(inputs, wide, 1)
        self.look = Layer(wide, wide, 3, stride, depthwise=True)
        self.narrow = nn.Conv2d(wide, outputs, 1)
        self.shortcut = stride == 1 and inputs == outputs

    def branch(self, x: Tensor) -> Tensor:
        """What the block adds (or puts in place of its input)."""
        y: Tensor = self.narrow(self.look(self.widen(x)))
        return y

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, h, w]`` to ``[B, outputs, h / stride, w / stride]``."""
        y = self.branch(x)
        return x + y if self.shortcut else y


class Head(nn.Module):
    """``[B, 128, 7, 7]`` to the embedding before it is scaled to unit length, ``[B, 128]``."""

    def __init__(self, inputs: int = 128, hidden: int = 768) -> None:
        super().__init__()
        self.widen = Layer(inputs, hidden, 1)
        self.pool_weight = nn.Parameter(torch.full((hidden, 7, 7), 1 / 49))
        self.project = nn.Linear(hidden, EMBEDDING_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        pooled = (self.widen(x).float() * self.pool_weight).sum(dim=(2, 3))
        return functional.linear(pooled, self.project.weight, self.project.bias)


class IdentityEncoder(nn.Module):
    """Face ``[B, 3, 112, 112]``, RGB scaled to about [-1, 1], to embedding ``[B, 128]``.

    ``stages`` is the network cut where training may compare or replace the map between two
    stages; the last stage is the head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(
                    Layer(3, 96, 3, 2), Layer(96, 96, 3, depthwise=True), Layer(96, 64, 1)
                ),
                Bottleneck(64, 192, 64, 2),
                *[Bottleneck(64, 192, 64) for _ in range(4)],
                Bottleneck(64, 384, 128, 2),
                *[Bottleneck(128, 384, 128) for _ in range(6)],
                Bottleneck(128, 640, 128, 2),
                *[Bottleneck(128, 384, 128) for _ in range(2)],
                Head(),
            ]
        )

    def maps(self, x: Tensor, replaced: list[Tensor] | None = None) -> list[Tensor]:
        """Output of every stage; the last one is the embedding (not unit length).

        With ``replaced`` (one map for each stage but the last) every stage after the first reads
        its input from there, so that all stages learn at the same time from correct inputs.
        """
        outputs: list[Tensor] = []
        y = x
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
        # Both views in one batch: each layer runs once.
        face_side, mirror_side = unit_length(self.net(torch.cat([x, x.flip(3)]))).chunk(2)
        return unit_length(face_side + mirror_side)


def unit_length(x: Tensor) -> Tensor:
    """Rows of ``[B, D]`` scaled to unit length."""
    lengths: Tensor = x.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return x.div(lengths)


def fold_batch_norms(net: IdentityEncoder) -> IdentityEncoder:
    """A copy in evaluation mode with every batch norm folded into the convolution before it."""
    folded = copy.deepcopy(net).eval()
    for module in folded.modules():
        if isinstance(module, Layer) and isinstance(module.norm, nn.BatchNorm2d):
            module.convolution = fuse_conv_bn_eval(module.convolution, module.norm)
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
