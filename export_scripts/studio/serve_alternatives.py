"""The studio stack's alternatives: a second stack made of them, and those that only export.

Each model of the stack can be filled by more than one public network (SCRFD for YuNet, BiRefNet for
MODNet, a denoiser with a ControlNet ...). They lie in a repository of their own, in folders called
`<model>-<variant>`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from headshot.errors import ModelContractError
from headshot.triton.contracts import check_models
from headshot.triton.model_config import ModelDescription, describe

from export_scripts.tensorrt.configs import read_config, write_config

# What the second stack is made of: every alternative that the gateway can serve.
SECOND = (
    "face_detector-scrfd",
    "identity_encoder-random-published",
    "identity_projection-identity",
    "matting-birefnet",
    "upscaler-rrdbnet",
    "denoiser-canny",
)


def base_of(folder: str) -> str:
    """Return the model that an alternative's folder fills."""
    return folder.split("-", maxsplit=1)[0]


def swap(repository: Path, alternatives: Path, names: tuple[str, ...], out: Path) -> Path:
    """Copy a repository with some models replaced by alternatives, under the models' own names.

    Raises:
        FileNotFoundError: no such alternative.
    """
    shutil.copytree(repository, out)
    for name in names:
        target = out / base_of(name)
        shutil.rmtree(target)
        shutil.copytree(alternatives / name, target)
        for path in (target / "config.pbtxt", *target.glob("configs/*.pbtxt")):
            config = read_config(path)
            config.name = target.name
            write_config(config, path)
    return out


def descriptions(repository: Path) -> dict[str, ModelDescription]:
    """Read the models of a repository as the gateway reads them from Triton."""
    return {
        path.parent.name: describe(read_config(path)) for path in repository.glob("*/config.pbtxt")
    }


def refusal(repository: Path, alternatives: Path, name: str) -> str:
    """Return why the gateway would not start with an alternative; empty when it would."""
    models = descriptions(repository)
    models[base_of(name)] = describe(read_config(alternatives / name / "config.pbtxt"))
    try:
        check_models(models)
    except ModelContractError as error:
        return error.message
    return ""
