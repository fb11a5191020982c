"""EfficientNet-Lite0 without its head: the encoder of networks that must know what things are.

Inverted bottlenecks without squeeze-and-excitation and with ReLU6 (Tan and Le, 2019; the Lite
variants, TensorFlow TPU models, 2020). Padding is TensorFlow's "same", which at stride two adds
nothing on the left: the weights of an ImageNet classifier expect it (`load_classifier`).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from export_scripts.networks.layers import BatchNorm

# kernel, stride, expansion, channels out, repeats (Tan and Le, 2019, table 1); the stage of 320
# channels and the head serve the classes of ImageNet and are left out.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
)
STEM = 32
# Channels of the maps that `encode` returns, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the photo.
MAPS = (16, 24, 40, 112, 192)
_LAST_OF_SCALE = (0, 1, 2, 4, 5)  # index into STAGES
_EPSILON = 1e-3  # of the classifier's batch normalisation


def _norm(channels: int) -> BatchNorm:
    norm = BatchNorm(channels)
    norm.eps = _EPSILON
    return norm


def _same(kernel: int, stride: int) -> nn.Module:
    """Padding of an even side as TensorFlow's "same" does it."""
    total = kernel - stride
    return nn.ZeroPad2d((total // 2, total - total // 2, total // 2, total - total // 2))


class InvertedBottleneck(nn.Module):
    """Widen, look around in each channel, narrow; added to its input where the shape stays."""

    def __init__(self, channels: int, kernel: int, stride: int, expansion: int, out: int) -> None:
        super().__init__()
        wide = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(channels, wide, 1, bias=False), _norm(wide), nn.ReLU6()]
        padding = kernel // 2 if stride == 1 else 0
        if stride == 2:
            layers.append(_same(kernel, stride))
        layers += [
            nn.Conv2d(wide, wide, kernel, stride, padding, groups=wide, bias=False),
            _norm(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, out, 1, bias=False),
            _norm(out),
        ]
        self.body = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,channels,H,W] to [B,out,H/stride,W/stride]."""
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


class Encoder(nn.Module):
    """Photo to maps of five scales."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _same(3, 2), nn.Conv2d(3, STEM, 3, 2, bias=False), _norm(STEM), nn.ReLU6()
        )
        stages, channels = [], STEM
        for kernel, stride, expansion, out, repeats in STAGES:
            blocks = []
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(InvertedBottleneck(channels, kernel, step, expansion, out))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map [B,3,H,W] in -1..1 (sides multiples of 32) to maps of MAPS channels, finest first."""
        x = self.stem(image)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _LAST_OF_SCALE:
                maps.append(x)
        return maps

    def load_classifier(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of an ImageNet classifier, in the layout of efficientnet_lite_pytorch.

        Both list their tensors in the order of the layers. Raises ValueError where they do not
        fit.
        """
        counters = "num_batches_tracked"
        given = [(k, v) for k, v in state.items() if not k.endswith(counters)]
        own = self.state_dict()
        if len(given) < len(own):
            message = f"the classifier has {len(given)} tensors, the encoder {len(own)}"
            raise ValueError(message)
        for (name, mine), (source, theirs) in zip(own.items(), given, strict=False):
            if mine.shape != theirs.shape:
                message = f"{source} is {tuple(theirs.shape)}, but {name} {tuple(mine.shape)}"
                raise ValueError(message)
            mine.copy_(theirs)
