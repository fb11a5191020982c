"""Three looks of the face detector at its candidates, as square crops: score, box, landmarks.

A pyramid network is cheap on the whole canvas but coarse; a small network that sees each candidate
at the same size tells faces from things, a larger one that sees the few best, well centred by
now, confirms them and places their boxes, and a third sees finer crops and places their landmarks
(a cascade, as in Zhang et al., "Joint Face Detection and Alignment Using Multi-task Cascaded
Convolutional Networks", 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export_scripts.networks.layers import convolution
from export_scripts.networks.pictures import halved

CROP = 64
# Side of the square crop over the longer side of the candidate's box.
MARGIN = 1.4
# The same of the third look, for whose points a pixel of 64 is a twentieth of the eye distance.
THIRD_CROP = 96
THIRD_MARGIN = 1.3
LEVELS = 4  # the canvas and three halvings
# Layers of `Refiner` for the many candidates and for the few best.
FIRST_LOOK = (-24, -48, -96, 96, -128)
SECOND_LOOK = (-32, -64, 64, 64, -128, 128, 128, -128)
THIRD_LOOK = (-32, -64, 64, -128, 128, 128, -128)


class Refiner(nn.Module):
    """Crops [N,3,C,C] in -1..1 to [N,15]: score logit, box and landmarks in crop sides.

    `layers` names each 3x3 convolution by its channels; a negative number halves the resolution,
    and four of them do. C is `crop`; with `fields` 10 there are landmarks only.
    """

    def __init__(
        self, layers: tuple[int, ...] = FIRST_LOOK, crop: int = CROP, fields: int = 15
    ) -> None:
        super().__init__()
        features, channels = [], 3
        for layer in layers:
            features.append(convolution(channels, abs(layer), 2 if layer < 0 else 1))
            channels = abs(layer)
        self.features = nn.ModuleList(features)
        self.hidden = nn.Linear(channels * (crop // 16) ** 2, 192)
        self.output = nn.Linear(192, fields)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, crops: Tensor) -> Tensor:
        """Predict; coordinates are relative to the crop's centre, -0.5 and 0.5 at its edges."""
        x = crops
        for layer in self.features:
            y = layer(x)
            x = x + y if y.shape == x.shape else y
        prediction: Tensor = self.output(torch.relu(self.hidden(x.flatten(1))))
        return prediction


def refine_both_ways(refiner: nn.Module, crops: Tensor) -> Tensor:
    """Mean of what the refiner says of N squares and of their mirror images, [N,15].

    `crops` [2N,3,64,64] are the squares and then their mirror images: together they are half as
    many nodes of the graph, and a bias of one use is added inside its convolution. Averaging the
    two halves no bias but cuts the scatter of landmarks, and what looks like a face one way only
    loses score.
    """
    first, second = refiner(crops).chunk(2)
    # x1, y1, x2, y2, then the points: mirrored, x changes its sign and left and right their places.
    order = [0, 3, 2, 1, 4, 7, 8, 5, 6, 9, 10, 13, 14, 11, 12]
    sign = torch.tensor([1.0] + [-1.0, 1.0] * 7)
    mean: Tensor = (first + second[:, order] * sign) * 0.5
    return mean


def halvings(image: Tensor) -> Tensor:
    """Lay the pixels of an image [B,S,S,3] and of its LEVELS - 1 halvings end to end, [B,P,3]."""
    pixels = [image.flatten(1, 2)]
    for _ in range(LEVELS - 1):
        image = halved(image)
        pixels.append(image.flatten(1, 2))
    return torch.cat(pixels, 1)


def crop_squares(
    pixels: Tensor,
    canvas: int,
    boxes: Tensor,
    crop: int = CROP,
    margin: float = MARGIN,
    *,
    mirrored: bool = False,
) -> tuple[Tensor, Tensor]:
    """Cut a square around each box by whole pixels.

    `pixels` [B,P,3] are the `halvings` of an image of `canvas` pixels a side, `boxes` [B,N,4] in
    pixels. Returns crops [B*N,3,C,C], C being `crop`, that show `margin` times the longer side of
    the box, and the squares [B,N,3] as x, y of the top left corner and side, whole numbers. With
    `mirrored` the mirror images of all crops follow, [2*B*N,3,C,C].
    Coordinates are integers all the way: in bfloat16 a coordinate of 600 would be known to 4 pixels
    only. Large squares are read from a halved canvas, so that fine texture does not alias; outside
    the canvas its edge is repeated.
    """
    extent = (boxes[..., 2:] - boxes[..., :2]).amax(-1)
    side = torch.clamp(extent * margin, 12.0, 2.0 * canvas).round().to(torch.int64)
    centre = ((boxes[..., :2] + boxes[..., 2:]) * 0.5).round().to(torch.int64)
    corner = centre - torch.div(side, 2, rounding_mode="trunc").unsqueeze(-1)
    steps = torch.arange(crop) * 2 + 1
    reach = torch.div(side.unsqueeze(-1) * steps, 2 * crop, rounding_mode="trunc")
    ys = torch.clamp(corner[..., 1:] + reach, 0, canvas - 1)
    if mirrored:
        # Read from right to left: turning the crops themselves round would copy them.
        back = torch.div(side.unsqueeze(-1) * steps.flip(0), 2 * crop, rounding_mode="trunc")
        reach = torch.stack([reach, back])
    xs = torch.clamp(corner[..., :1] + reach, 0, canvas - 1)
    # What column and row add to a pixel's index, at the level that suits the square: from 2 canvas
    # pixels a sample on, the one whose pixels are that large.
    across, down, offset = xs, ys * canvas, 0
    for power in range(1, LEVELS):
        pool, width = 2**power, canvas // 2**power
        offset += (2 * width) ** 2
        large = (side >= crop * pool).unsqueeze(-1)
        rows = torch.div(ys, pool, rounding_mode="trunc") * width + offset
        across = torch.where(large, torch.div(xs, pool, rounding_mode="trunc"), across)
        down = torch.where(large, rows, down)
    # Whole pixels of one long row are gathered: by channel it would be three times as many, and
    # slower each.
    picture = torch.arange(pixels.shape[0]).reshape(-1, 1, 1) * pixels.shape[1]
    index = (down + picture).unsqueeze(-1) + across.unsqueeze(-2)
    crops = pixels.flatten(0, 1)[index].reshape(-1, crop, crop, 3)
    return crops.permute(0, 3, 1, 2), torch.cat([corner, side.unsqueeze(-1)], -1)


def place(points: Tensor, squares: Tensor) -> Tensor:
    """Map points [B,N,2K] (x, y in crop sides from the centre) from squares to the canvas."""
    side = squares[..., 2:].float()
    middle = squares[..., :2].float() + side * 0.5
    return points * side + middle.repeat(1, 1, points.shape[-1] // 2)
