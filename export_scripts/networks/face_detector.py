"""Face detector: an anchor-free pyramid network on a 640x640 canvas, with decoding and top-K inside.

Dense 3x3 convolutions, one prediction for each cell of strides 8, 16, 32 and 64: the largest
stride is what finds a face that fills the frame. The score estimates the overlap of the box with
the face (quality focal loss, Li et al., 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export_scripts.networks.layers import convolution

CANVAS = 640
TOP_K = 64
STRIDES = (8, 16, 32, 64)
# Channels of one prediction: score logit, box (left, top, right, bottom), five landmarks (x, y).
FIELDS = 15

INPUT_NAMES = ["image"]
OUTPUT_NAMES = ["boxes", "scores", "landmarks"]
DYNAMIC_AXES = {name: {0: "batch"} for name in (*INPUT_NAMES, *OUTPUT_NAMES)}
OPSET = 17


class Stage(nn.Module):
    """Halve the resolution, then `depth` residual convolutions."""

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        self.down = convolution(channels_in, channels_out, 2)
        self.blocks = nn.ModuleList(convolution(channels_out, channels_out) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,Cin,H,W] to [B,Cout,H/2,W/2]."""
        x = self.down(x)
        for block in self.blocks:
            x = x + block(x)
        return x


class FaceDetector(nn.Module):
    """Predict one candidate face for each cell; see `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 16, 2)
        self.stage4 = Stage(16, 32, 1)
        self.stages = nn.ModuleList(
            [Stage(32, 64, 1), Stage(64, 96, 2), Stage(96, 128, 2), Stage(128, 128, 2)]
        )
        self.lateral = nn.ModuleList(nn.Conv2d(c, 64, 1) for c in (64, 96, 128, 128))
        self.smooth = nn.ModuleList(convolution(64, 64) for _ in STRIDES)
        self.predict = nn.ModuleList(nn.Conv2d(64, FIELDS, 1) for _ in STRIDES)
        for layer in self.predict:
            nn.init.normal_(layer.weight, std=0.01)
            with torch.no_grad():
                layer.bias.zero_()
                layer.bias[0] = -4.6  # a prior score of 0.01: nearly every cell is background
                layer.bias[1:5] = 0.7  # boxes start about four cells wide

    def forward(self, image: Tensor) -> list[Tensor]:
        """Predict for `image` [B,3,H,W] in -1..1 (sides multiples of 64).

        Returns one [B,15,H/s,W/s] for each stride s, in units of the stride and relative to the
        cell's centre: score logit, logarithms of the distances to the four sides, landmarks.
        """
        x = self.stage4(self.stem(image))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        levels = [
            lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)
        ]
        for index in range(len(levels) - 2, -1, -1):
            above = functional.interpolate(levels[index + 1], scale_factor=2.0, mode="nearest")
            levels[index] = levels[index] + above
        return [
            predict(smooth(level))
            for level, smooth, predict in zip(levels, self.smooth, self.predict, strict=True)
        ]


def cell_centres(height: int, width: int) -> Tensor:
    """Return x, y (pixels) and stride of every cell of every level, float32 [N,3]."""
    rows = []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
        )
        cells = torch.stack([x, y], -1).reshape(-1, 2).float()
        rows.append(torch.cat([(cells + 0.5) * stride, torch.full((len(cells), 1), stride)], 1))
    return torch.cat(rows)


def decode(fields: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Turn raw fields [...,14] and cells [...,3] into boxes [...,4] and landmarks [...,5,2]."""
    centre, stride = cells[..., :2], cells[..., 2:]
    reach = torch.exp(torch.clamp(fields[..., :4], -4.0, 4.0)) * stride
    boxes = torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1)
    landmarks = (fields[..., 4:] * stride).unflatten(-1, (5, 2)) + centre.unsqueeze(-2)
    return boxes, landmarks


class ServingModule(nn.Module):
    """uint8 canvas in; the K best candidates out, sorted by score, before suppression.

    image: uint8 [B,640,640,3] RGB. boxes: float32 [B,64,4] (x1, y1, x2, y2 in canvas pixels);
    scores: float32 [B,64] in 0..1; landmarks: float32 [B,64,5,2]. Within a level only local
    maxima of the score compete, so that one face cannot fill the list.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("cells", cell_centres(CANVAS, CANVAS), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect; shapes as in the class description."""
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        scores, fields = [], []
        for level in self.network(x):
            score = torch.sigmoid(level[:, :1])
            peak = functional.max_pool2d(score, 3, 1, 1)
            score = torch.where(score >= peak, score, torch.zeros_like(score))
            scores.append(score.flatten(1))
            fields.append(level[:, 1:].flatten(2).transpose(1, 2))
        best, index = torch.topk(torch.cat(scores, 1), TOP_K, dim=1, sorted=True)
        spread = index.unsqueeze(-1).expand(-1, -1, FIELDS - 1)
        chosen = torch.gather(torch.cat(fields, 1), 1, spread)
        boxes, landmarks = decode(chosen, self.cells[index])
        return boxes, best, landmarks


def build() -> nn.Module:
    """Return the training network with fresh weights."""
    return FaceDetector()


def serving(network: nn.Module) -> nn.Module:
    """Wrap a trained network for export."""
    return ServingModule(network.eval()).eval()


def example_inputs(batch: int) -> tuple[Tensor, ...]:
    """Return inputs of the serving module."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, CANVAS, CANVAS, 3)
    return (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),)
