"""Pictures with their channels last: the same numbers as the usual layers give."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training environment only: requirements/train.txt")

from torch.nn import functional  # noqa: E402

from export_scripts.networks import matting  # noqa: E402
from export_scripts.networks.pictures import Shrink, for_one_layer, halved  # noqa: E402


def picture(side: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.rand(2, side, side, channels, generator=generator) * 2 - 1


def test_a_halved_picture_is_the_average_of_its_pixels() -> None:
    x = picture(64)
    expected = functional.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(halved(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "side", "channels"), [(512, 320, 3), (512, 448, 3), (320, 256, 1), (448, 256, 1)]
)
def test_a_shrunk_picture_is_interpolated_bilinearly(size: int, side: int, channels: int) -> None:
    x = picture(size, channels)
    planes = functional.interpolate(
        x.permute(0, 3, 1, 2).double(), size=(side, side), mode="bilinear", align_corners=False
    )
    expected = planes.permute(0, 2, 3, 1).float()
    torch.testing.assert_close(Shrink(size, side, channels)(x), expected, rtol=0, atol=2e-6)


def test_sides_whose_blocks_need_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="not enough"):
        Shrink(256, 512, 3)


def test_a_picture_for_one_layer_keeps_its_values() -> None:
    x = picture(8)
    assert torch.equal(for_one_layer(x), x.permute(0, 3, 1, 2))


def test_the_served_matting_network_is_the_trained_one() -> None:
    torch.manual_seed(0)
    network = matting.MattingNetwork().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after a training: fresh ones do nothing
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
    (image,) = matting.example_inputs(1)
    with torch.no_grad():
        alpha = matting.serving(network)(image)[0, :, :, 0]
        logits, _ = network(image.permute(0, 3, 1, 2).float() / 127.5 - 1.0)
    expected = ((torch.sigmoid(logits[0, 0]) - 0.02) / 0.96).clamp(0, 1) * 255
    assert expected.std() > 5
    assert (alpha.float() - expected).abs().max() < 0.6
