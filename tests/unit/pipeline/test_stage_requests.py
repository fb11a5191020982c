"""A stage prepares the pictures of all photos first: its requests leave together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from headshot.deadline import Deadline
from headshot.imaging.decode import DecodeLimits
from headshot.imaging.parts import one_by_one
from headshot.pipeline import capture, detect, pictures
from headshot.pipeline.call import Call
from headshot.pipeline.detect import Face
from headshot.pipeline.engine import Engine
from headshot.pipeline.requests import PhotoInput

FACE = Face(
    np.array([200, 200, 400, 440], np.float32),
    np.array([[250, 290], [350, 290], [300, 340], [260, 390], [340, 390]], np.float32),
    0.99,
)


class Log:
    """Stands for engine, workers and metrics; says what was done in which order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.workers = self
        self.metrics = self
        self.models = self
        self.optional: dict[str, Any] = {}
        self.detector = self
        self.canvas = 640
        self.calls = 0
        self.side_by_side = one_by_one

    async def run(self, _deadline: Deadline, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        # Some pictures take longer to prepare.
        for _ in range(self.calls % 3):
            await asyncio.sleep(0)
        self.done.append(function.__name__)
        if function.__name__ == "decode_photo":
            pixels = np.zeros((640, 640, 3), np.uint8)
            return type("Decoded", (), {"pixels": pixels, "original_size": (640, 640)})
        return function(*args, **kwargs)

    def photo_received(self) -> None:
        """Count nothing."""

    async def infer(self, _call: Call, _stage: str, model: str, *_: Any, **__: Any) -> Any:
        self.done.append(model)
        return {"embedding": np.ones((1, 4), np.float32)}


async def test_tiles_of_a_large_picture_are_sent_a_batch_at_a_time() -> None:
    under_way = most = 0

    class Triton(Log):
        upscaler = SimpleNamespace(overlap=13, scale=4, max_batch_size=4)

        async def infer(self, _call: Call, _stage: str, _model: str, inputs: Any, **__: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return {"upscaled": inputs["image"].repeat(4, 1).repeat(4, 2)}

    image = np.arange(1200 * 1200 * 3, dtype=np.uint32).astype(np.uint8).reshape(1200, 1200, 3)
    call = Call(Deadline.after(60), request_id="r")
    made = await pictures.upscale(cast("Engine", Triton()), call, image)
    assert most == 4
    assert np.array_equal(made[::4, ::4], image)


async def test_no_request_leaves_before_the_last_picture_of_its_stage_is_prepared(monkeypatch):
    async def found(engine: Any, *_: Any, **__: Any) -> list[Face]:
        engine.done.append("face_detector")
        return [FACE]

    monkeypatch.setattr(detect, "find_faces", found)
    log = Log()
    photos = [capture._Photo(index, PhotoInput(b"")) for index in range(3)]
    call = Call(Deadline.after(30))
    await capture._look(cast(Engine, log), call, photos, DecodeLimits(), 2048)
    done = [name for name in log.done if name != "measure_photo"]
    assert done[3:9] == ["letterbox"] * 3 + ["face_detector"] * 3
    assert done[9:] == ["align_face"] * 3 + ["identity_encoder"] * 3
    assert all(photo.embedding is not None and photo.facts is not None for photo in photos)
