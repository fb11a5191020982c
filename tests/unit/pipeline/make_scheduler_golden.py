"""Write scheduler_golden.npz with diffusers' own schedulers (torch and diffusers needed).

python -m tests.unit.pipeline.make_scheduler_golden
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler
from diffusers.schedulers import scheduling_lcm
from headshot.pipeline.sampler import noise

from tests.unit.pipeline.test_sampler import GOLDEN, SHAPE, prediction_for

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SEED = 11


def main() -> None:
    """Run each scheduler over the same stand-in network and noise."""
    reference = noise(5, 0, 0, SHAPE)
    start = torch.from_numpy(noise(SEED, 0, 0, SHAPE))
    clean = torch.from_numpy(reference)
    out = {"reference": reference}
    schedulers = {
        "ddim": (DDIMScheduler(**CONFIG, clip_sample=False, set_alpha_to_one=False), 8),
        "euler": (EulerDiscreteScheduler(**CONFIG, timestep_spacing="linspace"), 8),
        "lcm": (LCMScheduler(**CONFIG, clip_sample=False), 4),
    }
    for name, (scheduler, steps) in schedulers.items():
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps
        sample = scheduler.add_noise(clean, start, times[:1])
        for index, timestep in enumerate(times):
            scaled = scheduler.scale_model_input(sample, timestep)
            prediction = torch.from_numpy(prediction_for(scaled.numpy(), index))
            fresh = torch.from_numpy(noise(SEED, 0, index + 1, SHAPE))
            scheduling_lcm.randn_tensor = lambda *_, fresh=fresh, **__: fresh
            sample = scheduler.step(prediction, timestep, sample).prev_sample
        out[f"{name}_timesteps"] = times.numpy().astype(np.float64)
        out[f"{name}_result"] = sample.numpy().astype(np.float32)
    np.savez_compressed(GOLDEN, **out)


if __name__ == "__main__":
    main()
