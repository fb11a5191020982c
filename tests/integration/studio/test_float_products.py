"""Without bfloat16 units, products of bfloat16 numbers are what such units would give."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the export environment has torch")

from export_scripts.studio.full_size import FloatProducts  # noqa: E402


def test_products_are_summed_in_float32_and_rounded_once() -> None:
    generator = torch.Generator().manual_seed(3)
    x, weight, bias = (
        torch.randn(shape, generator=generator).bfloat16() for shape in ((2, 64), (32, 64), (32,))
    )
    with FloatProducts():
        found = torch.nn.functional.linear(x, weight, bias)
        plain = x + 1
    wide = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    assert torch.equal(found, wide.bfloat16())
    assert plain.dtype is torch.bfloat16
