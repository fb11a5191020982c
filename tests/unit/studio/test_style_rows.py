"""Which row of the prompt table a style is served with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from headshot.pipeline.conditioning import make_conditioning


class TableEngine:
    """Serves a prompt table alone: it answers with the row that it was asked for."""

    def __init__(self, styles: str) -> None:
        table = SimpleNamespace(parameters={"styles": styles})
        self.models = SimpleNamespace(
            denoiser=SimpleNamespace(inputs={"sample", "timestep", "encoder_hidden_states"}),
            optional={"style_prompts": table},
        )

    async def infer(
        self, call: object, stage: str, model: str, inputs: dict[str, Any]
    ) -> dict[str, Any]:
        return {"encoder_hidden_states": inputs["style"]}


@pytest.mark.parametrize(
    ("style", "row"), [("acme", 1), ("legal", 2), ("exported-later", 0), ("default", 0)]
)
async def test_an_own_style_has_its_own_row_and_any_other_the_neutral_one(
    style: str, row: int
) -> None:
    engine: Any = TableEngine("*,acme,legal")
    call: Any = None
    photo = np.zeros((8, 8, 3), np.uint8)
    made = await make_conditioning(engine, call, photo, np.zeros(4, np.float32), style)
    assert made.inputs["encoder_hidden_states"].tolist() == [[row]]
