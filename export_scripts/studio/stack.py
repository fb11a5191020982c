"""The studio stack: which networks fill which model, with random or with public weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from diffusers import ControlNetModel
from headshot.models.manifest import load_manifest
from headshot.models.pull import sha256_of
from torch import nn

from export_scripts.studio import checkpoints, models, style_table
from export_scripts.studio.insightface_pack import find_pack
from export_scripts.studio.networks import detectors, matting, projection, recognisers, upscalers
from export_scripts.studio.networks.diffusion import add_image_prompt
from export_scripts.studio.sizes import (
    CONTEXT,
    FULL,
    NARROW,
    TEXT_TOKENS,
    Width,
    control_of,
    text_of,
    unet_of,
    vae_of,
    vision_of,
)
from export_scripts.studio.spec import StudioModel
from export_scripts.studio.wrap import Published, as_published, read_published


def random_stack(
    width: Width = NARROW,
    canvas: int = 512,
    seed: int = 11,
    *,
    names: tuple[str, ...] = (),
    variants: bool = True,
    styles: Path | None = None,
) -> list[StudioModel]:
    """Build models with seeded random weights.

    Args:
        width: sizes of the networks.
        canvas: side of the denoiser's pictures in pixels.
        seed: of the weights; a model's weights do not depend on which others are built.
        names: only these models; empty: all.
        variants: all variants of a model, one after the other; False: the one that is served.
        styles: folder of an organisation's own style guides, or None.
    """
    built: list[StudioModel] = []
    for number, (name, make) in enumerate(_random_makers(width, canvas, styles)):
        known = {model.name for model in built}
        if (names and name not in names) or (name in known and not variants):
            continue
        torch.manual_seed(seed + number)
        built.append(make())
    return built


def _random_makers(
    width: Width, canvas: int, styles: Path | None
) -> list[tuple[str, Callable[[], StudioModel]]]:
    def yunet() -> StudioModel:
        network = detectors.YuNetShaped()
        published = as_published(network, (3, 640, 640), detectors.YUNET_HEADS)
        return models.detector(published, network, "yunet")

    def scrfd() -> StudioModel:
        network = detectors.ScrfdShaped()
        published = as_published(network, (3, 640, 640), tuple(f"head{i}" for i in range(9)))
        return models.detector(published, network, "scrfd")

    def arcface() -> StudioModel:
        trunk = recognisers.IResNet(width.face_layers, width.face).eval()
        return models.encoder(trunk, "random-iresnet", "0.5")

    def published_arcface() -> StudioModel:
        trunk = recognisers.IResNet(width.face_layers, width.face).eval()
        published = as_published(trunk, (3, 112, 112), ("embedding",))
        return models.published_encoder(
            published, trunk, "random-published", "0.5", recognisers.EMBEDDING
        )

    def plain() -> StudioModel:
        unet = unet_of(width, canvas)
        add_image_prompt(unet)
        return models.denoiser(unet, canvas, tokens=16)

    def sface() -> StudioModel:
        trunk = recognisers.IResNet(width.face_layers, width.face, models.SFACE_EMBEDDING).eval()
        published = as_published(trunk, (3, 112, 112), ("embedding",))
        return models.published_encoder(
            published, trunk, "sface-random", "0.4", models.SFACE_EMBEDDING, name="verifier"
        )

    def controlled(kind: str) -> StudioModel:
        unet = unet_of(width, canvas)
        add_image_prompt(unet)
        # The kind that the gateway can draw goes with the projection of an embedding, the others
        # with that of the face: both sizes of the slot are exported.
        tokens = 4 if kind == "canny" else 16
        return models.denoiser(unet, canvas, tokens, random_control(width), kind)

    def plus_face() -> StudioModel:
        narrow = width is not FULL
        resampler = projection.Resampler(
            features=width.clip[0],
            width=128 if narrow else CONTEXT,
            depth=1 if narrow else 4,
            heads=2 if narrow else 12,
        )
        network = projection.FaceImageProjection(vision_of(width), resampler, canvas)
        return models.identity_projection(network, 16, canvas)

    def faceid() -> StudioModel:
        return models.identity_projection(projection.EmbeddingProjection(), 4, canvas)

    def prompts() -> StudioModel:
        rows = list(style_table.read_prompts(styles))
        return models.style_prompts(torch.randn(len(rows), TEXT_TOKENS, CONTEXT), rows)

    def matte(kind: str, side: int) -> StudioModel:
        network = matting.MattingShaped(side, logits=kind == "birefnet")
        published = as_published(network, (3, side, side), ("output",))
        return models.matte(published, network, kind, side)

    return [
        ("face_detector", yunet),
        ("face_detector", scrfd),
        ("identity_encoder", arcface),
        ("identity_encoder", published_arcface),
        ("latent_encoder", lambda: models.latent_models(vae_of(width), canvas)[0]),
        ("latent_decoder", lambda: models.latent_models(vae_of(width), canvas)[1]),
        ("identity_projection", plus_face),
        ("identity_projection", faceid),
        ("style_prompts", prompts),
        ("matting", lambda: matte("modnet", matting.MODNET_SIDE)),
        ("matting", lambda: matte("birefnet", matting.BIREFNET_SIDE)),
        ("upscaler", lambda: models.upscaler(upscalers.Srvgg(*width.srvgg), "srvgg")),
        ("upscaler", lambda: models.upscaler(upscalers.RrdbNet(*width.rrdb), "rrdbnet")),
        ("denoiser", plain),
        *(("denoiser", partial(controlled, kind)) for kind in models.CONTROLS),
        ("verifier", sface),
    ]


def random_control(width: Width) -> ControlNetModel:
    """Build a ControlNet whose zero convolutions are not zero, so that control shows in tests."""
    control = control_of(width)
    for layer in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
        nn.init.normal_(layer.weight, std=0.05)
    nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.05)
    return control


@dataclass(frozen=True)
class Choice:
    """What to build from the public checkpoints.

    Attributes:
        canvas: side of the denoiser's pictures in pixels, a multiple of 64.
        control: kind of ControlNet in the denoiser, empty for none.
        control_file: its checkpoint, when it is not one of the manifest.
        fast_matte: MODNet instead of BiRefNet.
        quality_upscaler: RealESRGAN_x4plus instead of realesr-general-x4v3.
        recogniser: "auraface" or "sface".
        match_threshold: cosine similarity, calibrated for that recogniser.
        insightface: an InsightFace pack, by name or folder (research only): its detector and
            recogniser instead of YuNet and the recogniser.
        styles: folder of an organisation's own style guides, whose prompts get rows, too.
    """

    canvas: int = 512
    control: str = ""
    control_file: Path | None = None
    fast_matte: bool = False
    quality_upscaler: bool = False
    recogniser: str = "auraface"
    match_threshold: float = 0.45
    insightface: str = ""
    styles: Path | None = None


_CONTROL_CHECKPOINTS = {
    "pose": "controlnet-openpose",
    "canny": "controlnet-canny",
    "depth": "controlnet-depth",
}


class Folder:
    """The pulled checkpoints by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest = load_manifest()

    def path(self, name: str) -> Path:
        """Return where a checkpoint lies.

        Raises:
            FileNotFoundError: not pulled yet; the message has the command that pulls it.
        """
        path = self._folder / self._manifest.get(name).path
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is not there: headshot models pull {name}")
        return path

    def hashes(self, names: tuple[str, ...]) -> str:
        """Return the sha256 of sources, comma-separated: pinned ones by name, others as given."""
        return ",".join(
            name if len(name) == 64 else self._manifest.get(name).sha256 for name in names
        )


def public_model(name: str, folder: Folder, choice: Choice) -> StudioModel:
    """Build one model with its public weights; one at a time keeps the memory of one.

    Raises:
        FileNotFoundError: a checkpoint is not pulled.
        CheckpointError: a checkpoint that does not fit its network.
        KeyError: no such model.
    """
    build = {
        "face_detector": _public_detector,
        "identity_encoder": _public_encoder,
        "verifier": _public_verifier,
        "denoiser": _public_denoiser,
        "latent_encoder": _public_latents,
        "latent_decoder": _public_latents,
        "identity_projection": _public_projection,
        "style_prompts": _public_prompts,
        "matting": _public_matte,
        "upscaler": _public_upscaler,
    }[name]
    made = build(folder, choice)
    return next(model for model in made if model.name == name)


PUBLIC_MODELS = (
    "face_detector",
    "identity_encoder",
    "latent_encoder",
    "latent_decoder",
    "identity_projection",
    "style_prompts",
    "matting",
    "upscaler",
    "denoiser",
)
# Built when asked for: a second recogniser beside the one that decides.
OPTIONAL_MODELS = ("verifier",)
# Read by the gateway, which serves such a model in research mode only.
_RESEARCH = {"licence_mode": "research"}


def _public_detector(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    if choice.insightface:
        path = find_pack(choice.insightface).detector
        model = models.detector(read_published(path), nn.Identity(), "scrfd", **_RESEARCH)
        return (replace(model, sources=(sha256_of(path),)),)
    published = read_published(folder.path("yunet"), detectors.YUNET_HEADS)
    model = models.detector(published, nn.Identity(), "yunet")
    return (replace(model, sources=("yunet",)),)


def _public_encoder(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    if choice.insightface:
        path = find_pack(choice.insightface).recogniser
        model = models.published_encoder(
            read_published(path), nn.Identity(), f"{path.stem}-1", f"{choice.match_threshold}",
            recognisers.EMBEDDING,
        )  # fmt: skip
        parameters = model.parameters | _RESEARCH
        return (replace(model, sources=(sha256_of(path),), parameters=parameters),)
    return (_public_recogniser(folder, choice.recogniser, choice.match_threshold),)


def _public_verifier(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    # The published working point of SFace; as with the first, calibrate it on your own pairs.
    return (_public_recogniser(folder, "sface", 0.363, name="verifier"),)


def _public_recogniser(
    folder: Folder, recogniser: str, threshold: float, name: str = "identity_encoder"
) -> StudioModel:
    size = {"auraface": recognisers.EMBEDDING, "sface": models.SFACE_EMBEDDING}[recogniser]
    published = read_published(folder.path(recogniser))
    model = models.published_encoder(
        published, nn.Identity(), f"{recogniser}-1", f"{threshold}", size, name
    )
    return replace(model, sources=(recogniser,))


def _public_denoiser(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    unet = unet_of(FULL, choice.canvas)
    checkpoints.fill_unet(unet, checkpoints.read(folder.path("sd15")))
    checkpoints.fuse_lora(unet, checkpoints.read(folder.path("lcm-lora")))
    adapter = checkpoints.read(folder.path("ip-adapter-plus-face"))
    checkpoints.fill_image_prompt(unet, add_image_prompt(unet), adapter)
    sources = ["sd15", "lcm-lora", "ip-adapter-plus-face"]
    control = None
    if choice.control:
        control = control_of(FULL)
        path, source = control_source(folder, choice)
        sources.append(source)
        checkpoints.fill_control(control, checkpoints.read(path))
    model = models.denoiser(unet, choice.canvas, 16, control, choice.control)
    return (replace(model, sources=tuple(sources)),)


def control_source(folder: Folder, choice: Choice) -> tuple[Path, str]:
    """Return a ControlNet's file and its source: a name of the manifest, or the file's hash.

    Raises:
        FileNotFoundError: not pulled, or a kind that the manifest does not have.
    """
    if choice.control_file is not None:
        # The licence check reads it like the hashes of the manifest.
        return choice.control_file, sha256_of(choice.control_file)
    name = _CONTROL_CHECKPOINTS.get(choice.control)
    if name is None:
        raise FileNotFoundError(
            f"no {choice.control} ControlNet is in the manifest: give --control-file"
        )
    return folder.path(name), name


def _public_latents(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    vae = vae_of(FULL)
    checkpoints.fill_vae(vae, checkpoints.read(folder.path("sd15")))
    made = models.latent_models(vae, choice.canvas)
    return tuple(replace(model, sources=("sd15",)) for model in made)


def _public_projection(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    weights = checkpoints.read(folder.path("ip-adapter-plus-face"))
    network = checkpoints.projection_of(weights)
    if not isinstance(network, projection.Resampler):
        raise checkpoints.CheckpointError("ip-adapter-plus-face is not a plus-face projection")
    clip = vision_of(FULL)
    checkpoints.fill_vision(clip, checkpoints.read(folder.path("clip-vit-h")))
    whole = projection.FaceImageProjection(clip, network, choice.canvas)
    model = models.identity_projection(whole, network.latents.shape[1], choice.canvas)
    return (replace(model, sources=("ip-adapter-plus-face", "clip-vit-h")),)


def _public_prompts(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    text = text_of(FULL)
    checkpoints.fill_text(text, checkpoints.read(folder.path("sd15")))
    prompts = style_table.read_prompts(choice.styles)
    words = style_table.tokenizer(folder.path("clip-vocabulary"))
    table = style_table.encode_styles(prompts, words, text)
    model = models.style_prompts(table, list(prompts))
    return (replace(model, sources=("sd15", "clip-vocabulary")),)


def _public_matte(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    name, side = ("modnet", 512) if choice.fast_matte else ("birefnet-portrait", 1024)
    published: Published = read_published(folder.path(name))
    published = replace(published, outputs=published.outputs[-1:])
    model = models.matte(published, nn.Identity(), name.removesuffix("-portrait"), side)
    return (replace(model, sources=(name,)),)


def _public_upscaler(folder: Folder, choice: Choice) -> tuple[StudioModel, ...]:
    name = "realesrgan-x4plus" if choice.quality_upscaler else "realesr-general-x4v3"
    network: upscalers.Srvgg | upscalers.RrdbNet = (
        upscalers.RrdbNet() if choice.quality_upscaler else upscalers.Srvgg()
    )
    checkpoints.fill(network, checkpoints.read(folder.path(name)))
    return (replace(models.upscaler(network, name), sources=(name,)),)
