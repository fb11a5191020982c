"""Every model once before the first request."""

from __future__ import annotations

import numpy as np

from headshot.deadline import Deadline
from headshot.pipeline import conditioning, denoise, detect, pictures
from headshot.pipeline.call import Call
from headshot.pipeline.denoise import DenoisePlan
from headshot.pipeline.engine import Engine


async def warm_up(engine: Engine) -> None:
    """Run every model once, so that the first request finds connections and caches ready."""
    canvas = engine.models.denoiser.canvas
    grey = np.full((canvas, canvas, 3), 128, np.uint8)
    call = Call(Deadline.after(120.0), request_id="warm-up")
    await detect.find_faces(engine, call, grey)
    face = np.full((1, 112, 112, 3), 128, np.uint8)
    outputs = await engine.infer(call, "encode_identity", "identity_encoder", {"face": face})
    vector = np.asarray(outputs["embedding"], np.float32)[0]
    await pictures.matte(engine, call, grey)
    await pictures.upscale(engine, call, grey[:64, :64])
    conditions = await conditioning.make_conditioning(engine, call, grey, vector, "")
    info = engine.models.denoiser
    plan = DenoisePlan(info.default_strength, 1, seed=0)
    await denoise.denoise(engine, call, conditions, {0: plan})
