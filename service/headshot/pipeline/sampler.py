"""Diffusion samplers as pure functions: the gateway owns the loop, each step is one model request.

`timestep` runs downwards; a sampler turns the model's prediction at one timestep into the sample at
the next. Random numbers come from (seed, candidate, step) alone, never from a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headshot.errors import ModelContractError

Latent = NDArray[np.float32]

_TRAIN_STEPS = 1000
_LCM_TIMESTEP_SCALING = 10.0
_LCM_SIGMA_DATA = 0.5


def noise(seed: int, candidate: int, step: int, shape: Sequence[int]) -> Latent:
    """Return standard normal noise that depends on nothing but its arguments.

    Args:
        seed: the request's seed, 0 to 2**64 - 1.
        candidate: number of the candidate.
        step: 0 for the starting noise, k for the noise that step k adds.
        shape: shape of the latent.

    Returns:
        float32 array of that shape.
    """
    words = [seed & 0xFFFFFFFF, seed >> 32, candidate, step]
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
    return generator.standard_normal(tuple(shape), dtype=np.float32)


class Sampler(Protocol):
    """What the denoise loop needs of a sampler."""

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The model's timesteps, downwards."""
        ...

    @property
    def starts_noised(self) -> bool:
        """Whether the first sample holds noise; if not, `start` may get zeros of any shape."""
        ...

    def start(self, reference: Latent, start_noise: Latent) -> Latent:
        """Return the sample that the first step gets."""
        ...

    def scale_input(self, sample: Latent, index: int) -> Latent:
        """Return the sample as the model wants it at step `index`."""
        ...

    def step(self, sample: Latent, prediction: Latent, index: int, fresh: Latent | None) -> Latent:
        """Return the sample after step `index`."""
        ...

    def estimate(self, sample: Latent, prediction: Latent, index: int) -> Latent:
        """Return the clean latent that the prediction implies; for previews."""
        ...

    def needs_noise(self, index: int) -> bool:
        """Tell whether step `index` wants fresh noise."""
        ...


@dataclass(frozen=True)
class FlowEuler:
    """Euler steps along dx/dt = v from x(s) = reference + s * noise_scale * n down to t = 0.

    The path is x(t) = (1 - t) x0 + t (reference + noise_scale n), so v = x(t)/t - x0/t and a step
    is x' = x + (t' - t) v (flow matching; Lipman et al. 2023, with the reference as the source).
    """

    timesteps: tuple[float, ...]
    noise_scale: float

    @classmethod
    def schedule(cls, steps: int, strength: float, noise_scale: float) -> FlowEuler:
        """Return equal steps from t = strength down to 0."""
        times = np.linspace(strength, 0.0, steps + 1)[:-1]
        return cls(tuple(float(t) for t in times), noise_scale)

    @property
    def starts_noised(self) -> bool:
        """Tell whether the flow begins beside the reference."""
        return self.noise_scale > 0

    def start(self, reference: Latent, start_noise: Latent) -> Latent:
        """Return the reference with the noise that belongs to the first timestep."""
        scale = np.float32(self.timesteps[0] * self.noise_scale)
        return reference + scale * start_noise

    def scale_input(self, sample: Latent, index: int) -> Latent:
        """Return the sample unchanged."""
        return sample

    def step(self, sample: Latent, prediction: Latent, index: int, fresh: Latent | None) -> Latent:
        """Return x + (t' - t) v."""
        after = self.timesteps[index + 1] if index + 1 < len(self.timesteps) else 0.0
        moved = np.float32(after - self.timesteps[index]) * prediction
        moved += sample  # without a second temporary array of millions of numbers
        return moved

    def estimate(self, sample: Latent, prediction: Latent, index: int) -> Latent:
        """Return x - t v."""
        return sample - np.float32(self.timesteps[index]) * prediction

    def needs_noise(self, index: int) -> bool:
        """Tell that no step wants fresh noise."""
        return False


def alphas_cumprod(start: float = 0.00085, end: float = 0.012) -> NDArray[np.float64]:
    """Return the cumulative product of 1 - beta for the scaled-linear schedule of 1000 steps."""
    betas = np.linspace(start**0.5, end**0.5, _TRAIN_STEPS) ** 2
    return np.asarray(np.cumprod(1.0 - betas))


@dataclass(frozen=True)
class _Epsilon:
    """Shared parts of samplers for models that predict the noise at integer timesteps."""

    timesteps: tuple[float, ...]
    abar: tuple[float, ...]
    final_abar: float

    @property
    def starts_noised(self) -> bool:
        """Tell that the first sample is noised."""
        return True

    def start(self, reference: Latent, start_noise: Latent) -> Latent:
        """Return sqrt(abar) x0 + sqrt(1 - abar) n at the first timestep."""
        abar = self.abar[0]
        return np.float32(abar**0.5) * reference + np.float32((1 - abar) ** 0.5) * start_noise

    def scale_input(self, sample: Latent, index: int) -> Latent:
        """Return the sample unchanged."""
        return sample

    def estimate(self, sample: Latent, prediction: Latent, index: int) -> Latent:
        """Return (x - sqrt(1 - abar) eps) / sqrt(abar)."""
        abar = self.abar[index]
        noise_part = np.float32((1 - abar) ** 0.5) * prediction
        return np.asarray((sample - noise_part) / np.float32(abar**0.5), np.float32)

    def _next_abar(self, index: int) -> float:
        return self.abar[index + 1] if index + 1 < len(self.abar) else self.final_abar


@dataclass(frozen=True)
class Ddim(_Epsilon):
    """DDIM without added noise (Song et al. 2021, eta = 0)."""

    @classmethod
    def schedule(cls, steps: int, strength: float) -> Ddim:
        """Return "leading" spaced timesteps, the first ones dropped as strength asks."""
        abar = alphas_cumprod()
        times = (np.arange(steps) * (_TRAIN_STEPS // steps)).round()[::-1].astype(int)
        keep = max(1, min(steps, int(steps * strength)))
        times = times[steps - keep :]
        return cls(tuple(map(float, times)), tuple(float(abar[t]) for t in times), float(abar[0]))

    def step(self, sample: Latent, prediction: Latent, index: int, fresh: Latent | None) -> Latent:
        """Return sqrt(abar') x0 + sqrt(1 - abar') eps."""
        after = self._next_abar(index)
        clean = self.estimate(sample, prediction, index)
        return np.float32(after**0.5) * clean + np.float32((1 - after) ** 0.5) * prediction

    def needs_noise(self, index: int) -> bool:
        """Tell that no step wants fresh noise."""
        return False


@dataclass(frozen=True)
class Lcm(_Epsilon):
    """Latent consistency steps (Luo et al. 2023), timestep scaling 10, sigma_data 0.5."""

    @classmethod
    def schedule(cls, steps: int, strength: float, original_steps: int = 50) -> Lcm:
        """Return the timesteps of the consistency schedule: skips of the 50-step training one."""
        abar = alphas_cumprod()
        stride = _TRAIN_STEPS // original_steps
        usable = max(steps, int(original_steps * strength))
        origin = (np.arange(1, usable + 1) * stride - 1)[::-1]
        picks = np.floor(np.linspace(0, len(origin), num=steps, endpoint=False)).astype(int)
        times = origin[picks]
        return cls(tuple(map(float, times)), tuple(float(abar[t]) for t in times), 1.0)

    def step(self, sample: Latent, prediction: Latent, index: int, fresh: Latent | None) -> Latent:
        """Return the consistency estimate, noised again for every step but the last."""
        scaled = self.timesteps[index] * _LCM_TIMESTEP_SCALING
        c_skip = _LCM_SIGMA_DATA**2 / (scaled**2 + _LCM_SIGMA_DATA**2)
        c_out = scaled / (scaled**2 + _LCM_SIGMA_DATA**2) ** 0.5
        clean = self.estimate(sample, prediction, index)
        denoised = np.float32(c_out) * clean + np.float32(c_skip) * sample
        if fresh is None:
            return denoised
        after = self._next_abar(index)
        return np.float32(after**0.5) * denoised + np.float32((1 - after) ** 0.5) * fresh

    def needs_noise(self, index: int) -> bool:
        """Tell that every step but the last wants fresh noise."""
        return index + 1 < len(self.timesteps)


@dataclass(frozen=True)
class EulerDiscrete:
    """Euler steps on sigmas for models that predict the noise (Karras et al. 2022, no churn)."""

    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]

    @classmethod
    def schedule(cls, steps: int, strength: float) -> EulerDiscrete:
        """Return "linspace" spaced timesteps, the first ones dropped as strength asks."""
        abar = alphas_cumprod()
        table = ((1 - abar) / abar) ** 0.5
        times = np.linspace(0, _TRAIN_STEPS - 1, steps)[::-1]
        keep = max(1, min(steps, int(steps * strength)))
        times = times[steps - keep :]
        sigmas = np.interp(times, np.arange(_TRAIN_STEPS), table)
        return cls(tuple(map(float, times)), tuple(map(float, sigmas)))

    @property
    def starts_noised(self) -> bool:
        """Tell that the first sample is noised."""
        return True

    def start(self, reference: Latent, start_noise: Latent) -> Latent:
        """Return x0 + sigma n at the first timestep."""
        return reference + np.float32(self.sigmas[0]) * start_noise

    def scale_input(self, sample: Latent, index: int) -> Latent:
        """Return x / sqrt(sigma^2 + 1)."""
        return sample / np.float32((self.sigmas[index] ** 2 + 1) ** 0.5)

    def step(self, sample: Latent, prediction: Latent, index: int, fresh: Latent | None) -> Latent:
        """Return x + (sigma' - sigma) eps."""
        after = self.sigmas[index + 1] if index + 1 < len(self.sigmas) else 0.0
        return sample + np.float32(after - self.sigmas[index]) * prediction

    def estimate(self, sample: Latent, prediction: Latent, index: int) -> Latent:
        """Return x - sigma eps."""
        return sample - np.float32(self.sigmas[index]) * prediction

    def needs_noise(self, index: int) -> bool:
        """Tell that no step wants fresh noise."""
        return False


def make_sampler(name: str, steps: int, strength: float, noise_scale: float) -> Sampler:
    """Return the sampler that a denoiser's configuration names.

    Args:
        name: flow_euler, lcm, ddim or euler.
        steps: number of steps, at least 1.
        strength: how far the result may move from the reference, above 0 to 1.
        noise_scale: standard deviation of flow_euler's noise; unused by the others.

    Raises:
        ModelContractError: the name is not known.
    """
    if name == "flow_euler":
        return FlowEuler.schedule(steps, strength, noise_scale)
    if name == "lcm":
        return Lcm.schedule(steps, strength)
    if name == "ddim":
        return Ddim.schedule(steps, strength)
    if name == "euler":
        return EulerDiscrete.schedule(steps, strength)
    raise ModelContractError(
        f"the denoiser's configuration names sampler {name!r}; "
        "known are flow_euler, lcm, ddim and euler",
        metadata={"model": "denoiser", "field": "sampler"},
    )
