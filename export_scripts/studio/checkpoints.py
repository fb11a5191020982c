"""Reading the public checkpoints into the studio networks.

SD-1.5 comes as one file in the layout of its original training code; diffusers' own converters
rename the keys. LoRA and image-prompt weights are fused or loaded here, and every key of a file
must find its place: a silent half-load makes plausible but wrong pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from export_scripts.studio.networks.diffusion import ImagePromptAttention
from export_scripts.studio.networks.projection import EmbeddingProjection, Resampler

Weights = dict[str, Tensor]


class CheckpointError(Exception):
    """A checkpoint that does not fit the network."""


def read(path: Path) -> Weights:
    """Read a .safetensors file, or a .pth/.bin pickle restricted to tensors."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("params_ema", "params", "state_dict"):
        if key in state:
            state = state[key]
            break
    return flatten(state)


def flatten(state: Mapping[str, object], prefix: str = "") -> Weights:
    """Join nested dictionaries (IP-Adapter .bin files) with dots."""
    flat: Weights = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            flat[prefix + key] = value
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
    return flat


def fill(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights; every parameter must be given and every weight must be used.

    Raises:
        CheckpointError: names or shapes that do not fit, all of them named.
    """
    floats = {
        key: value.float() if value.is_floating_point() else value for key, value in weights.items()
    }
    try:
        result = network.load_state_dict(floats, strict=False)
    except RuntimeError as error:
        raise CheckpointError(str(error)) from error
    # Position ids are constants that some versions save and some do not.
    missing = [key for key in result.missing_keys if not key.endswith("position_ids")]
    extra = [key for key in result.unexpected_keys if not key.endswith("position_ids")]
    if missing or extra:
        raise CheckpointError(
            f"missing {missing[:5]} ({len(missing)}), unexpected {extra[:5]} ({len(extra)})"
        )


def part(weights: Mapping[str, Tensor], prefix: str) -> Weights:
    """Return the entries below a prefix, the prefix removed."""
    return {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}


def fill_unet(unet: UNet2DConditionModel, sd: Mapping[str, Tensor]) -> None:
    """Load the UNet of an SD-1.5 single file."""
    fill(unet, convert_ldm_unet_checkpoint(dict(sd), config=dict(unet.config)))


def fill_vae(vae: AutoencoderKL, sd: Mapping[str, Tensor]) -> None:
    """Load the autoencoder of an SD-1.5 single file."""
    fill(vae, convert_ldm_vae_checkpoint(dict(sd), config=dict(vae.config)))


def fill_text(text: CLIPTextModel, sd: Mapping[str, Tensor]) -> None:
    """Load the text encoder of an SD-1.5 single file."""
    weights = part(sd, "cond_stage_model.transformer.")
    own = set(text.state_dict())
    if not any(key in own for key in weights):
        # Newer transformers drop the outer `text_model.`.
        weights = part(weights, "text_model.")
    fill(text, weights)


def fill_vision(clip: CLIPVisionModel, weights: Mapping[str, Tensor]) -> None:
    """Load CLIP's image encoder; its projection head is not used."""
    kept = {key: w for key, w in weights.items() if not key.startswith("visual_projection")}
    if not any(key in clip.state_dict() for key in kept):
        kept = part(kept, "vision_model.")
    fill(clip, kept)


def fill_control(control: ControlNetModel, weights: Mapping[str, Tensor]) -> None:
    """Load a ControlNet v1.1 file (original layout, with or without `control_model.`)."""
    prefixed = (
        weights
        if any(key.startswith("control_model.") for key in weights)
        else {f"control_model.{key}": w for key, w in weights.items()}
    )
    fill(control, convert_controlnet_checkpoint(dict(prefixed), config=dict(control.config)))


def fuse_lora(unet: nn.Module, weights: Mapping[str, Tensor], scale: float = 1.0) -> int:
    """Add a LoRA in kohya's layout to a UNet: W += scale * alpha / rank * up @ down.

    Args:
        unet: diffusers' UNet, changed in place.
        weights: `lora_unet_<path with underscores>.{lora_down.weight, lora_up.weight, alpha}`.
        scale: strength; LCM-LoRA is trained for 1.

    Returns:
        How many layers were changed.

    Raises:
        CheckpointError: a layer that the UNet does not have, or a shape that does not fit.
    """
    layers = {
        f"lora_unet_{name.replace('.', '_')}": module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    names = sorted({key.split(".")[0] for key in weights if key.startswith("lora_unet_")})
    for name in names:
        layer = layers.get(name)
        if layer is None:
            raise CheckpointError(f"the LoRA changes {name}, which the UNet does not have")
        down = weights[f"{name}.lora_down.weight"].float()
        up = weights[f"{name}.lora_up.weight"].float()
        rank = down.shape[0]
        alpha = float(weights.get(f"{name}.alpha", torch.tensor(float(rank))))
        # A convolution's down part keeps the kernel, its up part is 1x1: a product over the rank.
        delta = up.flatten(1) @ down.flatten(1)
        if delta.numel() != layer.weight.numel():
            raise CheckpointError(f"{name}: {tuple(delta.shape)} for {tuple(layer.weight.shape)}")
        with torch.no_grad():
            layer.weight += scale * alpha / rank * delta.view_as(layer.weight)
    return len(names)


def fill_image_prompt(
    unet: UNet2DConditionModel,
    order: list[ImagePromptAttention | None],
    weights: Mapping[str, Tensor],
) -> None:
    """Load `ip_adapter.*` of an IP-Adapter file; FaceID's LoRA parts are fused into the UNet.

    Args:
        unet: the UNet that the attentions belong to.
        order: what `add_image_prompt` returned.
        weights: the whole file.

    Raises:
        CheckpointError: a number that is not a cross attention, or a missing one.
    """
    adapter = part(weights, "ip_adapter.")
    used: set[str] = set()
    for number, processor in enumerate(order):
        own = part(adapter, f"{number}.")
        used |= {f"{number}.{key}" for key in own}
        if processor is not None:
            keys = {
                f"{name}.weight": own.pop(f"{name}.weight", None) for name in ("to_k_ip", "to_v_ip")
            }
            fill(processor, {key: w for key, w in keys.items() if w is not None})
        _fuse_attention_lora(unet, list(unet.attn_processors)[number], own)
    if extra := sorted(set(adapter) - used):
        raise CheckpointError(f"image-prompt weights without a place: {extra[:5]}")


def _fuse_attention_lora(
    unet: UNet2DConditionModel, processor: str, weights: Mapping[str, Tensor]
) -> None:
    attention = unet.get_submodule(processor.removesuffix(".processor"))
    targets = {
        "to_q": attention.to_q,
        "to_k": attention.to_k,
        "to_v": attention.to_v,
        "to_out": attention.to_out[0],
    }
    left = dict(weights)
    for name, layer in targets.items():
        up = left.pop(f"{name}_lora.up.weight", None)
        down = left.pop(f"{name}_lora.down.weight", None)
        if up is not None and down is not None:
            with torch.no_grad():
                layer.weight += up.float() @ down.float()
    if left:
        raise CheckpointError(f"{processor}: unknown weights {sorted(left)[:3]}")


def projection_of(weights: Mapping[str, Tensor]) -> Resampler | EmbeddingProjection:
    """Build and fill the projection of an IP-Adapter file, its kind told by its keys."""
    image = part(weights, "image_proj.")
    network: Resampler | EmbeddingProjection
    if "latents" in image:
        tokens, width = image["latents"].shape[1:]
        inner = image["layers.0.0.to_q.weight"].shape[0]
        depth = 1 + max(int(key.split(".")[1]) for key in image if key.startswith("layers."))
        network = Resampler(
            features=image["proj_in.weight"].shape[1], width=width,
            output=image["proj_out.weight"].shape[0], tokens=tokens, depth=depth,
            head=64, heads=inner // 64,
        )  # fmt: skip
    elif "proj.2.weight" in image:
        output = image["norm.weight"].shape[0]
        network = EmbeddingProjection(
            embedding=image["proj.0.weight"].shape[1], output=output,
            tokens=image["proj.2.weight"].shape[0] // output,
        )  # fmt: skip
    else:
        raise CheckpointError("neither a plus-face nor a FaceID projection")
    fill(network, image)
    return network
