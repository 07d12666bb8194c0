"""Noise levels against the definition of each kind of sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LMSDiscreteScheduler

from engines.samplers import Level, Sampler, finite_log_snr


def test_noise_prediction_has_the_ratio_of_the_training_schedule() -> None:
    sampler = LMSDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="linspace",
    )
    sampler.set_timesteps(15)
    kept = sampler.alphas_cumprod[[999, 0]].double()
    expected = torch.log(kept / (1 - kept)).tolist()
    levels = finite_log_snr(Sampler(sampler))
    assert [levels[0], levels[-1]] == pytest.approx(expected, rel=1e-4)
    assert len(levels) == 15


def test_rectified_flow_mixes_latent_and_noise() -> None:
    sampler = FlowMatchEulerDiscreteScheduler()
    sampler.set_timesteps(sigmas=np.array([1.0, 0.5, 0.25]))
    first, middle, last = finite_log_snr(Sampler(sampler))
    # Pure noise has no finite level.
    assert first is None
    assert middle == pytest.approx(0)
    assert last == pytest.approx(2 * np.log(3))


def test_pure_noise_and_no_noise_are_infinite() -> None:
    assert Level(0.0, 1.0).log_snr == -float("inf")
    assert Level(1.0, 0.0).log_snr == float("inf")
