"""The model repository of the measured denoiser: one model for each batch size."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

# Callers that are answered together come back one after the other, while the card computes the
# batch of the others: each gets the studio profile's own delay. A full batch waits for nothing.
_QUEUE_US_A_ROW = 2000
_ROOT = Path(__file__).parents[2]
_HALF, _FLOAT = model_config_pb2.TYPE_FP16, model_config_pb2.TYPE_FP32
_INPUTS = {
    "sample": (_HALF, (4, -1, -1)),
    "timestep": (_FLOAT, (1,)),
    "encoder_hidden_states": (_HALF, (77, 768)),
    "ip_tokens": (_HALF, (16, 768)),
    "ip_scale": (_FLOAT, (1,)),
}


@dataclass(frozen=True)
class Wanted:
    """What the models serve.

    Attributes:
        batches: largest batches, one model each.
        latents: sides of the latents that each model serves.
        device, narrow, tuned: see `network.build`.
    """

    batches: tuple[int, ...]
    latents: tuple[int, ...]
    device: str
    narrow: bool = False
    tuned: bool = False


def model_name(batch: int) -> str:
    """Return the name of the model whose batches have at most so many rows."""
    return f"denoiser_{batch}"


def write_repository(folder: Path, wanted: Wanted) -> None:
    """Write the models into an empty folder.

    They are apart because Triton joins requests up to a model's largest batch: two batches of four
    that wait for one model of sixteen would be measured as one of eight.

    Args:
        folder: the model repository.
        wanted: what the models serve and how.
    """
    # The process of a model finds there what this one finds.
    path = [str(_ROOT), *(str(Path(entry).resolve()) for entry in sys.path)]
    for batch in wanted.batches:
        config = ModelConfig(name=model_name(batch), backend="python", max_batch_size=batch)
        for name, (kind, dims) in _INPUTS.items():
            config.input.add(name=name, data_type=kind, dims=dims)
        config.output.add(name="prediction", data_type=_HALF, dims=(4, -1, -1))
        # Its tensors come from and go to the host; the process itself uses the GPU.
        config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
        config.dynamic_batching.max_queue_delay_microseconds = _QUEUE_US_A_ROW * batch
        config.dynamic_batching.preferred_batch_size.append(batch)
        parameters = {
            "path": os.pathsep.join(dict.fromkeys(path)),
            "latents": ",".join(map(str, wanted.latents)),
            "device": wanted.device,
            "narrow": str(int(wanted.narrow)),
            "tuned": str(int(wanted.tuned)),
        }
        for key, value in parameters.items():
            config.parameters[key].string_value = value
        version = folder / config.name / "1"
        version.mkdir(parents=True)
        shutil.copy2(Path(__file__).parent / "served" / "model.py", version)
        (folder / config.name / "config.pbtxt").write_text(text_format.MessageToString(config))
