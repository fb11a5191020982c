"""The compact networks by name, and where their modules and files are.

A network module (``export_scripts.networks.<model>``) offers ``build() -> nn.Module``,
``serving(net) -> nn.Module``, ``example_inputs(batch) -> tuple[Tensor, ...]`` and the constants
``INPUT_NAMES``, ``OUTPUT_NAMES``, ``DYNAMIC_AXES``, ``OPSET``; optionally ``TOLERANCE``, a dict
with any of the keys ``onnx`` and ``bf16`` (``export_scripts.onnx_tools.Tolerance``), and
``bf16_error(outputs, references) -> float``, where a relative error would say nothing. An
evaluation module (``export_scripts.evaluation.<model>``) offers
``evaluate(data, teachers, repository) -> list[Metric]``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from export_scripts.metrics import Metric

ROOT = Path(__file__).resolve().parent.parent
Evaluate = Callable[[Path, Path, Path], list[Metric]]


@dataclass(frozen=True)
class Model:
    """One served network of the compact profile."""

    name: str

    @property
    def weights(self) -> Path:
        """Committed float16 weights."""
        return ROOT / "export_scripts" / "weights" / f"{self.name}.safetensors"

    def network(self) -> ModuleType:
        """The module of the network.

        Raises:
            ModuleNotFoundError: it, or a package that it needs (torch), is not there.
        """
        return importlib.import_module(f"export_scripts.networks.{self.name}")

    def evaluate(self) -> Evaluate:
        """The model's metrics.

        Raises:
            ModuleNotFoundError: it, or a package that it needs, is not there.
        """
        module = importlib.import_module(f"export_scripts.evaluation.{self.name}")
        evaluate: Evaluate = module.evaluate
        return evaluate


COMPACT = tuple(
    Model(name) for name in ("face_detector", "identity_encoder", "denoiser", "matting", "upscaler")
)


def model(name: str) -> Model:
    """The compact model of that name.

    Raises:
        KeyError: no such model.
    """
    return {m.name: m for m in COMPACT}[name]
