"""The samplers: exact on known paths, equal to diffusers' where they overlap, noise by request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from headshot.errors import ModelContractError
from headshot.pipeline.sampler import Ddim, EulerDiscrete, FlowEuler, Lcm, make_sampler, noise

GOLDEN = Path(__file__).parent / "scheduler_golden.npz"
SHAPE = (4, 8, 8)


def prediction_for(sample, index):
    """A fixed, smooth function in place of a network; the golden file was made with the same."""
    return np.tanh(sample * np.float32(0.7) + np.float32(0.1 * index)).astype(np.float32)


def run(sampler, reference, seed):
    sample = sampler.start(reference, noise(seed, 0, 0, reference.shape))
    for index in range(len(sampler.timesteps)):
        prediction = prediction_for(sampler.scale_input(sample, index), index)
        fresh = noise(seed, 0, index + 1, SHAPE) if sampler.needs_noise(index) else None
        sample = sampler.step(sample, prediction, index, fresh)
    return sample


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
@pytest.mark.parametrize("strength", [0.1, 0.6, 1.0])
def test_flow_euler_with_the_exact_velocity_ends_on_the_clean_latent(steps, strength):
    clean, reference = noise(1, 0, 0, SHAPE), noise(2, 0, 0, SHAPE)
    sampler = FlowEuler.schedule(steps, strength, noise_scale=0.2)
    sample = sampler.start(reference, noise(3, 0, 0, SHAPE))
    for index, timestep in enumerate(sampler.timesteps):
        velocity = (sample - clean) / np.float32(timestep)
        assert np.allclose(sampler.estimate(sample, velocity, index), clean, atol=1e-5)
        sample = sampler.step(sample, velocity, index, None)
    assert np.allclose(sample, clean, atol=1e-5)


def test_flow_euler_begins_nearer_to_the_reference_at_a_lower_strength():
    reference, fresh = noise(2, 0, 0, SHAPE), noise(3, 0, 0, SHAPE)
    moved = [
        float(np.abs(FlowEuler.schedule(4, s, 0.2).start(reference, fresh) - reference).mean())
        for s in (0.1, 0.4, 0.9)
    ]
    assert moved == sorted(moved)
    assert moved[0] < moved[2]


def test_a_flow_without_noise_starts_on_the_reference_whatever_it_is_given():
    reference = noise(2, 0, 0, SHAPE)
    sampler = FlowEuler.schedule(4, 0.8, noise_scale=0.0)
    assert not sampler.starts_noised
    assert FlowEuler.schedule(4, 0.8, noise_scale=0.1).starts_noised
    assert np.array_equal(sampler.start(reference, np.zeros(1, np.float32)), reference)


def test_noise_depends_on_seed_candidate_and_step_alone():
    again = noise(7, 1, 2, SHAPE)
    assert np.array_equal(noise(7, 1, 2, SHAPE), again)
    # The upper half of a seed of 64 bits counts as well.
    for source in ((8, 1, 2), (7 + 2**32, 1, 2), (7, 0, 2), (7, 1, 3)):
        other = noise(*source, SHAPE)
        assert not np.array_equal(other, again)
    assert abs(float(noise(2**64 - 1, 0, 0, (64, 64)).std()) - 1) < 0.05


@pytest.mark.parametrize("name", ["ddim", "euler", "lcm"])
def test_the_exact_noise_implies_the_clean_latent_at_every_step(name):
    clean, added = noise(1, 0, 0, SHAPE), noise(3, 0, 0, SHAPE)
    sampler = make_sampler(name, 4, 1.0, 0.0)
    sample = sampler.start(clean, added)
    for index in range(4):
        assert np.allclose(sampler.estimate(sample, added, index), clean, atol=1e-3)
        fresh = noise(4, 0, index, SHAPE) if sampler.needs_noise(index) else None
        sample = sampler.step(sample, added, index, fresh)
        added = added if fresh is None else fresh


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("ddim", Ddim.schedule(8, 1.0)),
        ("euler", EulerDiscrete.schedule(8, 1.0)),
        ("lcm", Lcm.schedule(4, 1.0)),
    ],
)
def test_a_run_equals_the_schedulers_of_diffusers(name, sampler):
    golden = np.load(GOLDEN)
    assert np.allclose(sampler.timesteps, golden[f"{name}_timesteps"], atol=1e-3)
    result = run(sampler, golden["reference"], seed=11)
    assert np.allclose(result, golden[f"{name}_result"], atol=2e-5)


def test_a_sampler_that_nobody_knows_is_refused_with_the_known_ones():
    with pytest.raises(ModelContractError, match="flow_euler"):
        make_sampler("magic", 4, 1.0, 0.1)
