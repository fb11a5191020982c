"""The matting and upscaling stages: pictures in, pictures out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import geometry
from headshot.imaging.enlarge import enlarged_block
from headshot.imaging.matte import Guide, studied_size, study
from headshot.imaging.tiling import Tile, paste, stitch, strips, tiles
from headshot.pipeline.call import Call
from headshot.pipeline.concurrency import pair, together
from headshot.pipeline.engine import Engine

Image = NDArray[np.uint8]

# Pictures up to this many pixels go to the upscaler whole, larger ones in tiles of this side.
_WHOLE_PIXELS = 640 * 640
_TILE = 512
# Rows of a strip where only a part of a picture is needed: what the network works on then fits
# into the cache better, too. With margins too large for that, pictures are enlarged whole.
_STRIP_ROWS = 214
_STRIP_OVERLAP = 24


async def matte(engine: Engine, call: Call, image: Image, *, stage: str = "matte") -> Image:
    """Return the person's opacity at the matting network's own resolution.

    Args:
        engine: models and threads.
        call: the request.
        image: uint8 [h, w, 3] RGB.
        stage: stage to book the time on.

    Returns:
        uint8 [h', w'] of the picture's aspect; its long side is the network's canvas.
    """
    canvas = await _squeezed(engine, call, image)
    return await _matte(engine, call, image, canvas, stage)


async def matte_and_guide(engine: Engine, call: Call, image: Image) -> tuple[Image, Guide]:
    """Return `matte` of a picture, and what its fit needs, made while the network computes."""
    canvas = await _squeezed(engine, call, image)
    # Of a square picture both see the same small one.
    same = canvas.shape[1::-1] == studied_size(image.shape[1], image.shape[0])
    shrunk = canvas if same else None
    return await pair(
        _matte(engine, call, image, canvas, "matte"),
        engine.workers.run(call.deadline, study, image, shrunk=shrunk),
    )


async def _squeezed(engine: Engine, call: Call, image: Image) -> Image:
    """Return the picture in the matting network's square, as the network saw photos in training.

    With borders to keep its aspect they would be a scene.
    """
    size, workers = engine.models.matting.canvas, engine.workers
    return await workers.run(
        call.deadline, geometry.resize, image, (size, size), workers.side_by_side
    )


async def _matte(engine: Engine, call: Call, image: Image, canvas: Image, stage: str) -> Image:
    """Return `matte` of a picture from what the network is shown of it."""
    outputs = await engine.infer(call, stage, "matting", {"image": canvas[None]})
    alpha = np.ascontiguousarray(np.asarray(outputs["alpha"], np.uint8)[0, :, :, 0])
    scale = len(canvas) / max(image.shape[:2])
    shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if shape == alpha.shape[1::-1]:
        return alpha
    return await engine.workers.run(call.deadline, geometry.resize, alpha, shape)


async def upscale(engine: Engine, call: Call, image: Image) -> Image:
    """Return the picture enlarged by the upscaler's factor.

    Args:
        engine: models and threads.
        call: the request.
        image: uint8 [h, w, 3] RGB; large pictures are cut into tiles that join without a seam.

    Returns:
        uint8 [scale * h, scale * w, 3] RGB.
    """
    info = engine.models.upscaler
    height, width = image.shape[:2]
    if height * width <= _WHOLE_PIXELS:
        return await _run(engine, call, image)
    plan = tiles(height, width, _TILE, info.overlap)
    parts = await _run_all(engine, call, image, plan)
    return await engine.workers.run(call.deadline, stitch, plan, parts, info.scale)


def plan_strips(needed: NDArray[np.bool_], overlap: int) -> list[Tile]:
    """Return the strips for `upscale_strips`; needed is bool [h, w]."""
    return strips(needed, _STRIP_ROWS, overlap)


def pays(overlap: int) -> bool:
    """Tell whether enlarging a part only is worth it with an upscaler of this overlap."""
    return overlap <= _STRIP_OVERLAP


async def upscale_strips(
    engine: Engine, call: Call, image: Image, plan: Sequence[Tile], onto: Image | None = None
) -> Image:
    """Return the picture enlarged: by the upscaler in the strips, by interpolation elsewhere.

    What is in a strip is pixel for pixel what the upscaler makes of the whole picture.

    Args:
        engine: models and threads.
        call: the request.
        image: uint8 [h, w, 3] RGB.
        plan: of `plan_strips`.
        onto: uint8 [scale * h, scale * w, 3], an earlier answer for the picture, to add strips to.
    """
    scale = engine.models.upscaler.scale
    parts = await _run_all(engine, call, image, plan)
    return await engine.workers.run(call.deadline, join_strips, image, plan, parts, scale, onto)


def join_strips(
    image: Image,
    plan: Sequence[Tile],
    parts: Sequence[Image],
    scale: int,
    onto: Image | None = None,
) -> Image:
    """Return the enlarged picture of `upscale_strips` from the network's outputs."""
    if onto is None:
        size = (image.shape[1] * scale, image.shape[0] * scale)
        onto = np.empty((size[1], size[0], image.shape[2]), np.uint8)
        for block in _beside(plan, image):
            x0, y0, x1, y1 = (scale * edge for edge in block)
            onto[y0:y1, x0:x1] = enlarged_block(image, size, (x0, y0, x1, y1))
    paste(plan, parts, scale, onto)
    return onto


def _beside(strips: Sequence[Tile], image: Image) -> Iterator[tuple[int, int, int, int]]:
    """Yield the blocks (x0, y0, x1, y1) of a picture that no strip fills."""
    height, width = image.shape[:2]
    done = 0
    for strip in strips:
        for block in (
            (0, done, width, strip.top),
            (0, strip.top, strip.left, strip.bottom),
            (strip.right, strip.top, width, strip.bottom),
        ):
            if block[0] < block[2] and block[1] < block[3]:
                yield block
        done = strip.bottom
    if done < height:
        yield 0, done, width, height


async def _run_all(engine: Engine, call: Call, image: Image, plan: Sequence[Tile]) -> list[Image]:
    """Return the enlarged tiles of the plan; while one is enlarged the next is on its way."""
    # A batch at a time: all at once, a few large pictures would fill the model's queue.
    parts: list[Image] = []
    size = max(1, engine.models.upscaler.max_batch_size)
    for begin in range(0, len(plan), size):
        parts += await together(
            _run(engine, call, np.ascontiguousarray(tile.cut(image)))
            for tile in plan[begin : begin + size]
        )
    return parts


async def _run(engine: Engine, call: Call, image: Image) -> Image:
    outputs = await engine.infer(call, "upscale", "upscaler", {"image": image[None]})
    first: NDArray[np.uint8] = np.asarray(outputs["upscaled"], np.uint8)[0]
    return first
