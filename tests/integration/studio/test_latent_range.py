"""The autoencoder in float16: its residual stream is held within range, at no cost in accuracy."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the export environment has torch")

from diffusers import AutoencoderKL  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from export_scripts.studio.networks.autoencoder import (  # noqa: E402
    RESIDUAL,
    SCALING,
    LatentDecoder,
    LatentEncoder,
    hold_residuals,
)
from export_scripts.studio.onnx_export import cast_network  # noqa: E402
from export_scripts.studio.sizes import NARROW, vae_of  # noqa: E402
from export_scripts.studio.spec import Precision, seeded  # noqa: E402


@pytest.fixture
def vae() -> AutoencoderKL:
    torch.manual_seed(5)
    return vae_of(NARROW).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8, generator=seeded())


def latent() -> Tensor:
    return torch.randn((1, 4, 8, 8), generator=seeded()).half()


def overflow(part: nn.Module, example: Tensor) -> None:
    """Blow up the residual stream: its largest number becomes a quarter to half a million."""
    sizes: list[float] = []
    hooks = [
        module.register_forward_hook(lambda *given: sizes.append(float(given[2].abs().max())))
        for module in part.modules()
        if isinstance(module, nn.Conv2d)
    ]
    part(example)
    for hook in hooks:
        hook.remove()
    factor = 2.0 ** math.floor(math.log2(500_000 / max(sizes)))
    part.load_state_dict(hold_residuals(part, factor).state_dict())


@torch.no_grad()
def test_both_halves_give_what_diffusers_gives(vae: AutoencoderKL, image: Tensor) -> None:
    planes = (image.permute(0, 3, 1, 2).float() - 127.5) / 127.5
    wanted = vae.encode(planes).latent_dist.mean * SCALING
    assert torch.allclose(LatentEncoder(vae)(image).float(), wanted, rtol=2e-3, atol=1e-4)
    picture = vae.decode(latent().float() / SCALING).sample
    levels = ((picture / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1)
    assert (LatentDecoder(vae)(latent()).float() - levels).abs().max() <= 0.51


@torch.no_grad()
def test_the_stream_is_a_sixteenth_and_the_result_the_same(vae: AutoencoderKL) -> None:
    held = hold_residuals(vae.decoder, RESIDUAL)
    streams: dict[str, Tensor] = {}
    for name, part in (("plain", vae.decoder), ("held", held)):
        part.conv_norm_out.register_forward_pre_hook(
            lambda _, inputs, name=name: streams.update({name: inputs[0]})
        )
    z = latent().float()
    assert torch.allclose(held(z), vae.decoder(z), rtol=1e-4, atol=1e-5)
    assert torch.allclose(streams["held"], streams["plain"] * RESIDUAL, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_decoder_that_overflows_in_plain_float16_does_not_when_held(vae: AutoencoderKL) -> None:
    overflow(vae.decoder, latent().float() / SCALING)
    wanted = LatentDecoder(vae)(latent()).float()
    plain = cast_network(LatentDecoder(vae, residual=1.0), Precision.FLOAT16)
    held = cast_network(LatentDecoder(vae), Precision.FLOAT16)
    z = latent() / SCALING
    assert not torch.isfinite(plain.decoder(plain.post_quant_conv(z))).all()
    assert (held(latent()).float() - wanted).abs().max() <= 2


@torch.no_grad()
def test_an_encoder_that_overflows_in_plain_float16_does_not_when_held(
    vae: AutoencoderKL, image: Tensor
) -> None:
    overflow(vae.encoder, image.permute(0, 3, 1, 2) / 127.5 - 1)
    wanted = LatentEncoder(vae)(image).float()
    plain = cast_network(LatentEncoder(vae, residual=1.0), Precision.FLOAT16)(image)
    held = cast_network(LatentEncoder(vae), Precision.FLOAT16)(image).float()
    assert not torch.isfinite(plain).all()
    assert (held - wanted).abs().max() <= 1e-2 * wanted.abs().max()
