"""One headshot as a plain function: the service's imaging functions and networks, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from headshot.imaging import background, framing, geometry
from headshot.imaging.decode import decode_photo
from headshot.imaging.renditions import PRESETS
from headshot.imaging.subject import second_opinion
from headshot.pipeline import files, latents, pictures, rendering
from headshot.pipeline.capture_advice import measure_photo
from headshot.pipeline.detect import Face
from headshot.pipeline.frame import subject_touch
from headshot.pipeline.sampler import make_sampler, noise
from headshot.pipeline.styles import load_styles
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from loadtest.baselines.runtimes import Runtime

Image = NDArray[np.uint8]


def parameters_of(repository: Path, model: str) -> dict[str, str]:
    """Return the parameters of a model's config.pbtxt."""
    config = model_config_pb2.ModelConfig()
    text_format.Parse((repository / model / "config.pbtxt").read_text(), config)
    return {name: value.string_value for name, value in config.parameters.items()}


class SequentialPipeline:
    """What the gateway does for one photo and one candidate, without gateway and server.

    Args:
        runtime: runs the networks.
        repository: their configurations.
        rendition: preset to render.
        sparing: enlarge only the part of the picture that shows, as the gateway does; False
            enlarges all of it, as one writes it first.
    """

    def __init__(
        self, runtime: Runtime, repository: Path, rendition: str = "web", *, sparing: bool = False
    ) -> None:
        self._runtime = runtime
        self._detector = parameters_of(repository, "face_detector")
        self._encoder = parameters_of(repository, "identity_encoder")
        self._denoiser = parameters_of(repository, "denoiser")
        self._style = load_styles(None).get("corporate-finance")
        self._upscaler = parameters_of(repository, "upscaler")
        self._spec = PRESETS[rendition]
        self._sparing = sparing

    def _run(self, model: str, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return self._runtime.run(model, inputs)

    def _detect(self, photo: Image) -> Face:
        size = int(self._detector["canvas"])
        canvas, scale = geometry.letterbox(photo, size)
        outputs = self._run("face_detector", image=canvas[None])
        scores = outputs["scores"][0]
        keep = scores >= float(self._detector["score_threshold"])
        boxes, points = outputs["boxes"][0][keep], outputs["landmarks"][0][keep]
        best = geometry.nms(boxes, scores[keep], float(self._detector["nms_iou"]))[0]
        return Face(boxes[best] / scale, points[best] / scale, float(scores[keep][best]))

    def _embed(self, photo: Image, face: Face) -> NDArray[np.float32]:
        aligned = geometry.align_face(photo, face.landmarks, antialias=True)
        return self._run("identity_encoder", face=aligned[None])["embedding"][0]

    def _matte(self, image: Image) -> Image:
        canvas = geometry.resize(image, (512, 512))
        alpha = np.ascontiguousarray(self._run("matting", image=canvas[None])["alpha"][0, :, :, 0])
        scale = 512 / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return geometry.resize(alpha, size)

    def _denoise(self, reference: Image, identity: NDArray[np.float32], seed: int) -> Image:
        settings = self._denoiser
        strength = float(settings["default_strength"])
        scale = float(settings["noise_scale"])
        sampler = make_sampler(settings["sampler"], int(settings["steps"]), strength, scale)
        latent = latents.pixel_unshuffle(reference, 8)
        start = noise(seed, 0, 0, latent.shape) if sampler.starts_noised else latent[:1] * 0
        sample = sampler.start(latent, start)
        for index, timestep in enumerate(sampler.timesteps):
            outputs = self._run(
                "denoiser",
                sample=latents.to_half(sample)[None],
                timestep=np.array([timestep], np.float32),
                identity=identity[None],
                reference=reference[None],
            )
            prediction = np.asarray(outputs["prediction"][0], np.float16)
            sample = sampler.step(sample, latents.from_half(prediction), index, None)
        return latents.pixel_shuffle(sample, 8)

    def _enlarge(self, candidate: Image, draft: rendering.Person) -> Image:
        if not self._sparing:
            return self._run("upscaler", image=candidate[None])["upscaled"][0]
        plan = pictures.plan_strips(rendering.visible_part(draft), int(self._upscaler["overlap"]))
        cut = (np.ascontiguousarray(tile.cut(candidate))[None] for tile in plan)
        parts = [self._run("upscaler", image=part)["upscaled"][0] for part in cut]
        return pictures.join_strips(candidate, plan, parts, int(self._upscaler["scale"]))

    def make(self, data: bytes, seed: int) -> bytes:
        """Return one finished JPEG of a photo."""
        photo = decode_photo(data, long_side=2048).pixels
        face = self._detect(photo)
        measure_photo(photo, 1, face.box, face.landmarks)
        identity = self._embed(photo, face)
        frame, opinion = self._frame(photo, face)
        side = frame.canvas
        reference = geometry.warp(photo, frame.matrix, (side, side), "replicate")
        candidate = self._denoise(reference, identity, seed)
        found = self._detect(candidate)
        self._embed(candidate, found)
        alpha = self._matte(candidate)
        tone, retouch = self._style.tone_spec(), str(self._style.retouch)
        matte = rendering.decide_matte(candidate, alpha, frame, opinion)
        draft = rendering.cut_person(candidate, alpha, frame, tone, retouch, reference, matte)
        ground = background.choose(self._style.background_spec(), draft.tones).spec
        whole = framing.plan_crop(frame, draft.alpha, 1.0)
        size = (round(whole.width), round(whole.width))
        wrap = self._style.light_wrap
        square = rendering.compose_crop(draft, whole, size, ground, seed, wrap)
        moved = found.seen_through(whole.matrix(size))
        similarity = float(self._embed(square, moved) @ identity)
        rendering.judge(
            draft,
            square,
            whole,
            ground,
            reference,
            similarity,
            float(self._encoder["match_threshold"]),
            self._style.bounds(),
            seed,
        )
        crops = rendering.plan_crops(draft, {self._spec.aspect})
        enlarged = self._enlarge(candidate, draft)
        master = files.master_side((self._spec,), crops, side, 4)
        person = rendering.enlarge_person(draft, enlarged, master)
        (made,) = files.make_files(
            person, crops, (self._spec,), ground, seed, self._style, "benchmark", None
        )
        return made.data

    def _frame(self, photo: Image, face: Face) -> tuple[framing.PortraitFrame, Image]:
        alpha = self._matte(photo)
        touch = subject_touch(alpha, photo, face.landmarks)
        size = (photo.shape[1], photo.shape[0])
        spec = self._style.framing_spec()
        frame = framing.plan_portrait(face.landmarks, face.box, size, spec, touch=touch)
        return frame, second_opinion(alpha, size[0], frame.matrix, frame.canvas)
