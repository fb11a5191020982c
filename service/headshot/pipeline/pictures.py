"""The matting and upscaling stages: pictures in, pictures out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import geometry
from headshot.imaging.tiling import stitch, tiles
from headshot.pipeline.call import Call
from headshot.pipeline.concurrency import together
from headshot.pipeline.engine import Engine

Image = NDArray[np.uint8]

# Pictures up to this many pixels go to the upscaler whole, larger ones in tiles of this side.
_WHOLE_PIXELS = 640 * 640
_TILE = 512


async def matte(engine: Engine, call: Call, image: Image, *, stage: str = "matte") -> Image:
    """Return the person's opacity at the matting network's own resolution.

    Args:
        engine: models and threads.
        call: the request.
        image: uint8 [h, w, 3] RGB.
        stage: stage to book the time on.

    Returns:
        uint8 [h', w']: the part of the network's canvas that the picture covers; its long side is
        the canvas.
    """
    size = engine.models.matting.canvas
    canvas, scale = await engine.workers.run(call.deadline, geometry.letterbox, image, size)
    outputs = await engine.infer(call, stage, "matting", {"image": canvas[None]})
    alpha = np.asarray(outputs["alpha"], np.uint8)[0, :, :, 0]
    height = max(1, round(image.shape[0] * scale))
    width = max(1, round(image.shape[1] * scale))
    return np.ascontiguousarray(alpha[:height, :width])


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
    parts = await together(
        _run(engine, call, np.ascontiguousarray(tile.cut(image))) for tile in plan
    )
    return await engine.workers.run(call.deadline, stitch, plan, parts, info.scale)


async def _run(engine: Engine, call: Call, image: Image) -> Image:
    outputs = await engine.infer(call, "upscale", "upscaler", {"image": image[None]})
    first: NDArray[np.uint8] = np.asarray(outputs["upscaled"], np.uint8)[0]
    return first
