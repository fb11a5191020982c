"""From a photo to the canvas that the headshot is made on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import fog, framing, geometry
from headshot.imaging.framing import EdgeTouch, FramingSpec, PortraitFrame
from headshot.imaging.subject import second_opinion
from headshot.pipeline import pictures
from headshot.pipeline.call import Call
from headshot.pipeline.detect import Face
from headshot.pipeline.engine import Engine
from headshot.pipeline.team import Composition, TeamMember

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Framed:
    """A framed photo.

    Attributes:
        frame: where it came from.
        reference: uint8 [canvas, canvas, 3] RGB.
        opinion: uint8, the photo's matte on the canvas, see `imaging.subject.second_opinion`.
    """

    frame: PortraitFrame
    reference: Image
    opinion: Image


async def photo_matte(engine: Engine, call: Call, photo: Image) -> Image:
    """Return what the matting network says of the whole photo, see `pictures.matte`."""
    return await pictures.matte(engine, call, photo, stage="frame")


async def frame_photo(
    engine: Engine,
    call: Call,
    photo: Image,
    face: Face,
    spec: FramingSpec,
    member: TeamMember | None = None,
    matte: Image | None = None,
) -> Framed:
    """Plan the portrait with the photo's matte in sight, and cut it out.

    Args:
        engine: models and threads.
        call: the request.
        photo: uint8 [h, w, 3] RGB.
        face: the person's face in it.
        spec: the style's composition.
        member: the person's part in a team, whose composition is then asked for.
        matte: of `photo_matte`, None to ask for it here.
    """
    alpha = await photo_matte(engine, call, photo) if matte is None else matte
    height, width = photo.shape[:2]

    def plan(touch: EdgeTouch, wanted: FramingSpec) -> PortraitFrame:
        return framing.plan_portrait(
            face.landmarks,
            face.box,
            (width, height),
            wanted,
            canvas=engine.models.denoiser.canvas,
            touch=touch,
        )

    def plan_alone() -> tuple[EdgeTouch, PortraitFrame]:
        touch = subject_touch(alpha, photo, face.landmarks)
        return touch, plan(touch, spec)

    touch, frame = await engine.workers.run(call.deadline, plan_alone)
    if member is not None:
        shared = await member.composition(Composition.of(frame))
        # Whoever decided is asked too: the bounds of a team hold for everybody.
        frame = await engine.workers.run(call.deadline, plan, touch, shared.asked_of(spec))

    def cut() -> Framed:
        side = frame.canvas
        # Beyond the photo's edge its border is continued: black would leak into the result.
        reference = geometry.warp(
            photo, frame.matrix, (side, side), "replicate", engine.workers.side_by_side
        )
        return Framed(frame, reference, second_opinion(alpha, width, frame.matrix, side))

    return await engine.workers.run(call.deadline, cut)


def subject_touch(alpha: Image, photo: Image, landmarks: NDArray[np.floating]) -> EdgeTouch:
    """Return where the subject meets the photo's edges, in photo pixels.

    Args:
        alpha: uint8 [h0, w0], the network's matte of the photo.
        photo: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
    """
    decided = fog.decide(alpha)
    ratio = photo.shape[1] / decided.shape[1]
    found = framing.edges_touched(
        decided.astype(np.float32) / np.float32(255), landmarks / np.float32(ratio)
    )
    return EdgeTouch(
        top=found.top,
        left=None if found.left is None else found.left * ratio,
        right=None if found.right is None else found.right * ratio,
        crown=found.crown * ratio,
        hat=None if found.hat is None else found.hat * ratio,
    )
