"""Diffusers' parameter names back to those of SD-1.5's original training code.

The public single files use the latter. Writing this mapping independently of diffusers' own
converter (which goes the other way) is what makes the round trip a test.
"""

from __future__ import annotations

import re

from torch import Tensor


def unet_names(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Rename a UNet's weights; `layers` is the number of residual blocks of a level (2)."""
    return {_unet_name(name, layers): value for name, value in weights.items()}


def _unet_name(name: str, layers: int) -> str:
    prefix = "model.diffusion_model."
    for ours, theirs in (
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("conv_in", "input_blocks.0.0"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
    ):
        if name.startswith(ours + "."):
            return prefix + name.replace(ours, theirs, 1)
    if found := re.match(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name):
        level, kind, block, rest = int(found[1]), found[2], int(found[3]), found[4]
        index = 1 + level * (layers + 1) + block
        return f"{prefix}input_blocks.{index}.{int(kind == 'attentions')}.{_inner(rest)}"
    if found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.*)", name):
        index = (int(found[1]) + 1) * (layers + 1)
        return f"{prefix}input_blocks.{index}.0.op.{found[2]}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        index = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"{prefix}middle_block.{index}.{_inner(found[3])}"
    if found := re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name):
        level, kind, block, rest = int(found[1]), found[2], int(found[3]), found[4]
        index = level * (layers + 1) + block
        return f"{prefix}output_blocks.{index}.{int(kind == 'attentions')}.{_inner(rest)}"
    if found := re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.*)", name):
        level = int(found[1])
        index = level * (layers + 1) + layers
        # The first level has no attention, so its upsampler comes second.
        return f"{prefix}output_blocks.{index}.{1 if level == 0 else 2}.conv.{found[2]}"
    raise KeyError(name)


def _inner(rest: str) -> str:
    for ours, theirs in (
        ("norm1.", "in_layers.0."),
        ("conv1.", "in_layers.2."),
        ("time_emb_proj.", "emb_layers.1."),
        ("norm2.", "out_layers.0."),
        ("conv2.", "out_layers.3."),
        ("conv_shortcut.", "skip_connection."),
    ):
        if rest.startswith(ours):
            return rest.replace(ours, theirs, 1)
    return rest


def vae_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename an autoencoder's weights; attention projections become 1x1 convolutions again."""
    renamed = {}
    for name, value in weights.items():
        new = _vae_name(name)
        if re.search(r"mid\.attn_1\.(q|k|v|proj_out)\.weight", new):
            value = value[:, :, None, None]  # noqa: PLW2901 - the renamed weight
        renamed["first_stage_model." + new] = value
    return renamed


def _vae_name(name: str) -> str:
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    for ours, theirs in (
        ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ):  # fmt: skip
        name = re.sub(rf"(attn_1)\.{re.escape(ours)}\.", rf"\1.{theirs}.", name)
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    # The original numbers its upward levels from the top.
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name
    )
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
