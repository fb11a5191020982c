"""Face detector: a pyramid network on a 640x640 canvas, then a second look at its candidates.

Dense 3x3 convolutions, one prediction for each cell of strides 8, 16, 32 and 64: the largest
stride is what finds a face that fills the frame. The score estimates the overlap of the box with
the face (quality focal loss, Li et al., 2020). The best candidates are cropped and refined inside
the graph; decoding, cropping and top-K all happen in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from export_scripts.networks.face_refiner import (
    SECOND_LOOK,
    THIRD_CROP,
    THIRD_LOOK,
    THIRD_MARGIN,
    Refiner,
    crop_squares,
    halvings,
    place,
    refine_both_ways,
)
from export_scripts.networks.layers import convolution
from export_scripts.networks.pictures import for_one_layer

CANVAS = 640
TOP_K = 64
CANDIDATES = 32
# So many of the best are looked at a second time, in a crop around the box of the first look.
SECOND_LOOKS = 4
# So many of these are looked at a third time for their landmarks, around the box of the second
# look, in crops so many times the usual one: the mean of two scatters less, by 2%.
THIRD_LOOKS = 2
THIRD_ZOOMS = (0.93, 1.08)
STRIDES = (8, 16, 32, 64)
# Channels of one prediction: score logit, box (left, top, right, bottom), five landmarks (x, y).
FIELDS = 15
# Candidates below this score are all zeros: their order would be noise, and differ by runtime.
SCORE_FLOOR = 0.1

INPUT_NAMES = ["image"]
OUTPUT_NAMES = ["boxes", "scores", "landmarks"]
DYNAMIC_AXES = {name: {0: "batch"} for name in (*INPUT_NAMES, *OUTPUT_NAMES)}
OPSET = 17
# A last digit that differs can move a crop by a whole pixel or swap neighbours in the sorted list,
# and bfloat16 swaps whole rows: there the best face counts, see `bf16_error`.
TOLERANCE = {"onnx": 3e-2, "bf16": 1.0}
# Biases stay inputs of the convolutions, added in float32: as constants beside them OpenVINO rounds
# them to bfloat16, which moves landmarks by a sixth more and saves nothing.
BIASES_APART = False
# Rounding by hand (operands and results of convolutions) moves the best drawn face by up to 2.6
# pixels, its landmarks by 1.2 and its score by 0.001.
BF16_ALLOWED = {"boxes": 5.0, "scores": 0.01, "landmarks": 2.5}


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
        self.refiner = Refiner()
        self.closer = Refiner(SECOND_LOOK)
        self.pointer = Refiner(THIRD_LOOK, THIRD_CROP, 10)
        for layer in self.predict.children():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
                # A prior score of 0.01 (nearly every cell is background), boxes four cells wide.
                nn.init.constant_(layer.bias[:1], -4.6)
                nn.init.constant_(layer.bias[1:5], 0.7)

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
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
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
    points = (fields[..., 4:] * stride).reshape(*fields.shape[:-1], 5, 2)
    landmarks = points + centre.unsqueeze(-2)
    return boxes, landmarks


class ServingModule(nn.Module):
    """uint8 canvas in; the K best candidates out, sorted by score, before suppression.

    image: uint8 [B,640,640,3] RGB. boxes: float32 [B,64,4] (x1, y1, x2, y2 in canvas pixels);
    scores: float32 [B,64] in 0..1; landmarks: float32 [B,64,5,2]. The CANDIDATES best local
    maxima of the pyramid are looked at, the SECOND_LOOKS best of them twice, the THIRD_LOOKS best
    of these a third time; rows whose score is below SCORE_FLOOR are zeros.
    """

    def __init__(self, network: FaceDetector) -> None:
        super().__init__()
        self.network = network
        self.cells: Tensor
        self.register_buffer("cells", cell_centres(CANVAS, CANVAS), persistent=False)

    def propose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes [B,N,4] and scores [B,N] of the pyramid's best candidates."""
        scores, fields = [], []
        for level in self.network(x):
            score = torch.sigmoid(level[:, :1])
            peak = functional.max_pool2d(score, 3, 1, 1)
            score = torch.where(score >= peak, score, torch.zeros_like(score))
            scores.append(score.flatten(1))
            fields.append(level[:, 1:].flatten(2))
        best, index = torch.topk(torch.cat(scores, 1), CANDIDATES, dim=1, sorted=True)
        spread = index.unsqueeze(1).expand(-1, FIELDS - 1, -1)
        chosen = torch.gather(torch.cat(fields, 2), 2, spread)  # turned round when they are few
        boxes, _ = decode(chosen.transpose(1, 2), self.cells[index])
        return boxes, best

    def look(self, refiner: nn.Module, pixels: Tensor, boxes: Tensor) -> Tensor:
        """Look at boxes [B,N,4]: score logit, box and landmarks on the canvas, [B,N,15]."""
        crops, squares = crop_squares(pixels, CANVAS, boxes, mirrored=True)
        refined = refine_both_ways(refiner, crops).reshape(-1, boxes.shape[1], FIELDS)
        return torch.cat([refined[..., :1], place(refined[..., 1:], squares)], dim=-1)

    def point(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """Look at boxes [B,N,4] for landmarks on the canvas, [B,N,10].

        One way round only: the teacher's answer for a mirrored picture is not the mirrored answer.
        """
        middle = (boxes[..., :2] + boxes[..., 2:]) * 0.5
        half = boxes[..., 2:] - middle
        zoomed = [torch.cat([middle - half * z, middle + half * z], -1) for z in THIRD_ZOOMS]
        crops, squares = crop_squares(
            pixels, CANVAS, torch.cat(zoomed, dim=1), THIRD_CROP, THIRD_MARGIN
        )
        points = self.network.pointer(crops).reshape(-1, len(zoomed) * boxes.shape[1], 10)
        placed = place(points, squares).reshape(-1, len(zoomed), boxes.shape[1], 10)
        return placed.mean(dim=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect; shapes as in the class description."""
        x = image.float() * (1.0 / 127.5) - 1.0
        boxes, _ = self.propose(for_one_layer(x))
        pixels = halvings(x)
        first = self.look(self.network.refiner, pixels, boxes)
        _, order = torch.topk(first[..., 0], CANDIDATES, dim=1, sorted=True)
        first = torch.gather(first, 1, order.unsqueeze(-1).expand(-1, -1, FIELDS))
        # The mean of both scores: a face confirms itself when it is centred, a thing often does
        # not. The box is the second look's.
        top, rest = first.split([SECOND_LOOKS, CANDIDATES - SECOND_LOOKS], dim=1)
        second = self.look(self.network.closer, pixels, top[..., 1:5])
        score = (top[..., :1] + second[..., :1]) * 0.5
        points = torch.cat(
            [self.point(pixels, second[:, :THIRD_LOOKS, 1:5]), second[:, THIRD_LOOKS:, 5:]], dim=1
        )
        seen = torch.cat([score, second[..., 1:5], points], dim=-1)
        found = torch.cat([seen, rest], dim=1)
        score = torch.sigmoid(found[..., 0])
        best, order = torch.topk(score, CANDIDATES, dim=1, sorted=True)
        best = torch.where(best >= SCORE_FLOOR, best, torch.zeros_like(best))
        sure = (best > 0).to(best.dtype).unsqueeze(-1)
        places = torch.gather(found[..., 1:], 1, order.unsqueeze(-1).expand(-1, -1, 14)) * sure
        boxes, points = places.split([4, 10], dim=-1)
        spare = TOP_K - CANDIDATES
        return (
            functional.pad(boxes, (0, 0, 0, spare)),
            functional.pad(best, (0, spare)),
            functional.pad(points, (0, 0, 0, spare)).reshape(-1, TOP_K, 5, 2),
        )


def build() -> FaceDetector:
    """Return the training network with fresh weights."""
    return FaceDetector()


def serving(network: FaceDetector) -> nn.Module:
    """Wrap a trained network for export."""
    return ServingModule(network).eval()


def example_inputs(batch: int) -> tuple[Tensor, ...]:
    """Return inputs of the serving module: a drawn face of another size in each row.

    Noise would not do: without faces all candidates score the same and their order means nothing.
    """
    y, x = torch.meshgrid(torch.arange(CANVAS), torch.arange(CANVAS), indexing="ij")
    rows = []
    for row in range(batch):
        size = 90.0 + 70.0 * (row % 3)
        u, v = (x - 320) / size, (y - 300) / size
        picture = torch.stack([90 + x / 16, 110 + y / 16, 140 - x / 16], -1)
        parts = (  # centre, radii, colour
            (0.0, -0.25, 0.95, 1.15, (45, 32, 26)),
            (0.0, 0.0, 0.78, 1.05, (214, 168, 140)),
            (-0.32, -0.18, 0.15, 0.07, (52, 38, 34)),
            (0.32, -0.18, 0.15, 0.07, (52, 38, 34)),
            (-0.32, -0.36, 0.2, 0.04, (70, 48, 38)),
            (0.32, -0.36, 0.2, 0.04, (70, 48, 38)),
            (0.0, 0.16, 0.12, 0.1, (176, 124, 102)),
            (0.0, 0.5, 0.3, 0.08, (158, 70, 72)),
        )
        for centre_x, centre_y, across, down, colour in parts:
            inside = ((u - centre_x) / across) ** 2 + ((v - centre_y) / down) ** 2 < 1
            picture[inside] = torch.tensor(colour, dtype=picture.dtype)
        rows.append(picture.clamp(0, 255).to(torch.uint8))
    return (torch.stack(rows),)


def bf16_error(
    outputs: Sequence[NDArray[np.floating]], references: Sequence[NDArray[np.floating]]
) -> float:
    """Return how far the best face of any row is off, in parts of what is allowed; 1 is the limit.

    Args:
        outputs: boxes [B, 64, 4], scores [B, 64] and landmarks [B, 64, 5, 2] in bfloat16.
        references: the same in float32.
    """
    differences = [
        float(np.abs(output[:, 0] - reference[:, 0]).max()) / allowed
        for output, reference, allowed in zip(
            outputs, references, BF16_ALLOWED.values(), strict=True
        )
    ]
    return max(value if math.isfinite(value) else math.inf for value in differences)
