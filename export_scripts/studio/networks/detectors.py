"""Decoding of SCRFD and YuNet heads inside the graph: boxes, scores and five landmarks, top 64.

SCRFD (Guo et al., "Sample and Computation Redistribution", ICLR 2022): distances from the anchor
centre, in strides, two anchors a cell. YuNet (Wu et al., Machine Intelligence Research 2023):
score sqrt(cls * obj), centre offset and log size in strides, one anchor a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CANVAS = 640
STRIDES = (8, 16, 32)
TOP = 64


def grid(stride: int, anchors: int, canvas: int = CANVAS) -> Tensor:
    """Cell origins [cells * anchors, 2] as x, y in canvas pixels, rows first."""
    side = canvas // stride
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cells = torch.stack([x, y], dim=-1).reshape(-1, 1, 2).float() * stride
    return cells.expand(-1, anchors, -1).reshape(-1, 2)


class TopFaces(nn.Module):
    """Sort candidates by score and keep the best: [B, N, ...] to [B, 64, ...]."""

    def forward(
        self, boxes: Tensor, scores: Tensor, landmarks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keep the best 64; landmarks come as [B, N, 10] and leave as [B, 64, 5, 2]."""
        best, index = torch.topk(scores, TOP, dim=1)
        chosen_boxes = torch.gather(boxes, 1, index.unsqueeze(-1).expand(-1, -1, 4))
        chosen_points = torch.gather(landmarks, 1, index.unsqueeze(-1).expand(-1, -1, 10))
        return chosen_boxes, best, chosen_points.reshape(-1, TOP, 5, 2)


class YuNetDecoder(nn.Module):
    """Twelve YuNet heads, [B, cells, C] each: cls, obj, bbox, kps at strides 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("origins", torch.cat([grid(stride, 1) for stride in STRIDES]))
        sizes = [torch.full(((CANVAS // stride) ** 2, 1), float(stride)) for stride in STRIDES]
        self.register_buffer("strides", torch.cat(sizes))
        self.top = TopFaces()

    def forward(self, *heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode heads given in the order cls x3, obj x3, bbox x3, kps x3."""
        confidence, objectness, box, points = (
            torch.cat(heads[3 * kind : 3 * kind + 3], dim=1) for kind in range(4)
        )
        product = confidence.clamp(0, 1) * objectness.clamp(0, 1)
        scores = product.squeeze(-1).sqrt()
        centre = box[..., :2] * self.strides + self.origins
        half = torch.exp(box[..., 2:]) * self.strides / 2
        boxes = torch.cat([centre - half, centre + half], dim=-1)
        landmarks = points * self.strides + self.origins.repeat(1, 5)
        return self.top(boxes, scores, landmarks)


class ScrfdDecoder(nn.Module):
    """Nine SCRFD heads: score, box distances, landmark offsets at strides 8, 16, 32.

    Args:
        flat: True for the public files, whose heads are [cells * B * 2, C] with the batch between
            cell and anchor (their export transposes to H, W, B, C before it reshapes); False for
            batched re-exports, [B, cells * 2, C].
    """

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.register_buffer("origins", torch.cat([grid(stride, 2) for stride in STRIDES]))
        sizes = [torch.full((2 * (CANVAS // stride) ** 2, 1), float(stride)) for stride in STRIDES]
        self.register_buffer("strides", torch.cat(sizes))
        self.top = TopFaces()

    def _batched(self, head: Tensor, stride: int) -> Tensor:
        if not self.flat:
            return head
        cells = (CANVAS // stride) ** 2
        size = head.shape[-1]
        return head.reshape(cells, -1, 2, size).permute(1, 0, 2, 3).reshape(-1, 2 * cells, size)

    def forward(self, *heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode heads given in the order score x3, box x3, landmarks x3."""
        scores, distances, offsets = (
            torch.cat(
                [
                    self._batched(head, stride)
                    for head, stride in zip(heads[3 * kind : 3 * kind + 3], STRIDES, strict=True)
                ],
                dim=1,
            )
            for kind in range(3)
        )
        distances = distances * self.strides
        boxes = torch.cat(
            [self.origins - distances[..., :2], self.origins + distances[..., 2:]], dim=-1
        )
        landmarks = offsets * self.strides + self.origins.repeat(1, 5)
        return self.top(boxes, scores.squeeze(-1), landmarks)


YUNET_HEADS = tuple(
    f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES
)


class YuNetShaped(nn.Module):
    """A random network with YuNet's input and heads: stands in for the file in tests.

    BGR planes [B, 3, 640, 640] in 0..255 to twelve heads [B, cells, C].
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 8, stride=8)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 2, stride=2) for _ in range(2))
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(width, size, 1) for size in (1, 1, 4, 10)) for _ in STRIDES
        )

    def forward(self, planes: Tensor) -> tuple[Tensor, ...]:
        """Run the stand-in; heads in the order of YUNET_HEADS."""
        x = torch.relu(self.stem(planes / 255.0))
        levels = [x]
        for layer in self.down:
            levels.append(torch.relu(layer(levels[-1])))
        outputs: list[Tensor] = []
        for kind in range(4):
            for level, heads in zip(levels, self.heads, strict=True):
                head = heads[kind](level).permute(0, 2, 3, 1).flatten(1, 2)
                outputs.append(head.sigmoid() if kind < 2 else head)
        return tuple(outputs)


class ScrfdShaped(nn.Module):
    """A random network with SCRFD's input and its nine flat heads: stands in for the file."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 8, stride=8)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 2, stride=2) for _ in range(2))
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(width, 2 * size, 1) for size in (1, 4, 10)) for _ in STRIDES
        )

    def forward(self, planes: Tensor) -> tuple[Tensor, ...]:
        """Planes [B, 3, 640, 640] to heads [cells * B * 2, C], in the order score, box, points."""
        levels = [torch.relu(self.stem(planes))]
        for layer in self.down:
            levels.append(torch.relu(layer(levels[-1])))
        outputs: list[Tensor] = []
        for kind, size in enumerate((1, 4, 10)):
            for level, heads in zip(levels, self.heads, strict=True):
                head = heads[kind](level).permute(2, 3, 0, 1).reshape(-1, size)
                outputs.append(head.sigmoid() if kind == 0 else head)
        return tuple(outputs)
