"""What the denoiser sees besides the sample: filled by input name, as its configuration asks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.errors import ModelContractError
from headshot.pipeline.call import Call
from headshot.pipeline.denoise import Conditioning
from headshot.pipeline.engine import Engine

_LOOP_INPUTS = frozenset({"sample", "timestep"})
# Weight of the image-prompt tokens against the text tokens (1 is what adapters are trained at) and
# of the control, where the denoiser's parameters say nothing.
_SCALES = {"ip_scale": 1.0, "control_scale": 0.8}


async def make_conditioning(
    engine: Engine,
    call: Call,
    reference: NDArray[np.uint8],
    identity: NDArray[np.float32],
    style_id: str,
) -> Conditioning:
    """Return the conditioning for one person and style.

    Args:
        engine: models and threads.
        call: the request.
        reference: uint8 [canvas, canvas, 3] RGB, the framed photo.
        identity: float32 [D], the person's template.
        style_id: names the row of the prompt table in the studio profile.

    Raises:
        ModelContractError: the denoiser wants an input that nothing here can fill.
    """
    filled: dict[str, NDArray[Any]] = {}
    for name in sorted(engine.models.denoiser.inputs - _LOOP_INPUTS):
        if name == "reference":
            filled[name] = reference[None]
        elif name == "identity":
            filled[name] = identity[None]
        elif name == "ip_tokens":
            # A recogniser's embedding or the face itself, as the projection was trained.
            projection = engine.models.optional["identity_projection"].parameters
            wanted = projection.get("identity_input", "identity")
            given: NDArray[Any] = reference[None] if wanted == "reference" else identity[None]
            outputs = await engine.infer(call, "denoise", "identity_projection", {wanted: given})
            filled[name] = outputs["ip_tokens"]
        elif name == "encoder_hidden_states":
            rows = engine.models.optional["style_prompts"].parameters.get("styles", "").split(",")
            # A style that the table was exported without: the first row is the neutral one.
            row = rows.index(style_id) if style_id in rows else 0
            outputs = await engine.infer(
                call, "denoise", "style_prompts", {"style": np.array([[row]], np.int32)}
            )
            filled[name] = outputs["encoder_hidden_states"]
        elif name in _SCALES:
            told = engine.models.denoiser.parameters.get(f"default_{name}", _SCALES[name])
            filled[name] = np.array([[float(told)]], np.float32)
        elif name == "control":
            kind = engine.models.denoiser.parameters.get("control", "")
            filled[name] = control_map(reference, kind)[None]
        else:
            raise ModelContractError(
                f"the denoiser wants an input {name!r} that the gateway does not know",
                metadata={"model": "denoiser", "field": name},
            )
    return Conditioning(reference, filled)


def control_map(reference: NDArray[np.uint8], kind: str) -> NDArray[np.float16]:
    """Return the map that a ControlNet of this kind wants of a picture.

    Args:
        reference: uint8 [s, s, 3] RGB.
        kind: parameter `control` of the denoiser; the gateway itself can make "canny" alone (edges
            at thresholds 100 and 200, as the public ControlNet was trained).

    Returns:
        float16 [3, s, s] in 0..1.

    Raises:
        ModelContractError: a kind that needs a network of its own.
    """
    if kind != "canny":
        raise ModelContractError(
            f"the gateway cannot make the {kind or 'unnamed'} map that the denoiser wants; "
            "serve a denoiser without control, or with canny",
            metadata={"model": "denoiser", "field": "control"},
        )
    edges = cv2.Canny(cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY), 100, 200)
    return np.repeat((edges[None] / 255).astype(np.float16), 3, axis=0)
