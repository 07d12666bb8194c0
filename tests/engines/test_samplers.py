"""Samplers: noise levels, clean estimates and runs, against diffusers' schedulers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from engines.errors import EngineError
from engines.sampler_names import MODEL, SAMPLERS
from engines.samplers import Sampler, default_sampler, scheduler_of, set_steps

STEPS = 7
NOISE = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
VELOCITY = NOISE | {"prediction_type": "v_prediction"}
CLEAN = NOISE | {"prediction_type": "sample"}
OF_NOISE, OF_FLOWS = ("lms", "euler", "ddim", "dpm", "unipc"), ("flow-euler", "dpm", "unipc")
CASES = [(name, schedule) for schedule in (NOISE, VELOCITY, CLEAN) for name in OF_NOISE]
CASES += [(name, FLOW) for name in OF_FLOWS]
IDS = [
    f"{name}-{'flow' if schedule is FLOW else schedule.get('prediction_type', 'epsilon')}"
    for name, schedule in CASES
]
every = pytest.mark.parametrize(("name", "schedule"), CASES, ids=IDS)


def sampler(name: str, schedule: dict[str, Any], steps: int = STEPS) -> Sampler:
    scheduler = scheduler_of(name, schedule)
    set_steps(scheduler, steps, 64, 1.15, False)
    return Sampler(scheduler)


def drawn(seed: int) -> Tensor:
    return torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(seed))


def perfect(used: Sampler, index: int, clean: Tensor, noise: Tensor) -> Tensor:
    """What a denoiser that knows clean latent and noise predicts."""
    level = used.levels[index]
    norm = math.hypot(level.alpha, level.sigma)
    return {
        "epsilon": noise,
        "sample": clean,
        "flow_prediction": noise - clean,
        # In the scale in which the variance is kept.
        "v_prediction": (level.alpha * noise - level.sigma * clean) / norm,
    }[used.predicts]


@every
def test_levels_are_those_of_the_forward_process(name: str, schedule: dict[str, Any]) -> None:
    used, clean, noise = sampler(name, schedule), drawn(0), drawn(1)
    forward = getattr(used.scheduler, "add_noise", None)
    for index, timestep in enumerate(used.timesteps):
        times = timestep.repeat(2)
        if forward is None:
            expected = used.scheduler.scale_noise(clean, times, noise)
        else:
            expected = forward(clean, noise, times)
        # The first levels of exploding samplers are 14 times the noise.
        scale = max(1.0, used.levels[index].sigma)
        actual = used.noised(clean, noise, index)
        assert torch.allclose(actual, expected, rtol=0, atol=2e-6 * scale)


@every
def test_a_perfect_prediction_gives_the_clean_latent(name: str, schedule: dict[str, Any]) -> None:
    used, clean, noise = sampler(name, schedule), drawn(0), drawn(1)
    for index, level in enumerate(used.levels):
        predicted = perfect(used, index, clean, noise)
        estimate = used.clean(predicted, index, used.noised(clean, noise, index))
        # Of noise, the estimate divides what is left of the latent.
        rounding = 1e-6 * (1 + level.sigma / max(level.alpha, 1e-2))
        assert torch.allclose(estimate, clean, rtol=0, atol=5 * rounding)


@every
def test_a_run_of_perfect_predictions_ends_at_the_clean_latent(
    name: str, schedule: dict[str, Any]
) -> None:
    used, clean, noise = sampler(name, schedule), drawn(0), drawn(1)
    latents = used.noised(clean, noise, 0)
    for index in range(STEPS):
        used.scaled(latents, index)
        predicted = perfect(used, index, clean, noise)
        latents = used.step(predicted, index, latents)
    assert torch.allclose(latents, clean, rtol=0, atol=1e-3)


@every
def test_the_clean_estimate_is_diffusers_own(name: str, schedule: dict[str, Any]) -> None:
    used, other = sampler(name, schedule), sampler(name, schedule).scheduler
    latents = used.start(drawn(0))
    for index, timestep in enumerate(used.timesteps):
        predicted = drawn(2 + index)
        model_input = used.scaled(latents, index)
        if hasattr(other, "scale_model_input"):
            assert torch.equal(model_input, other.scale_model_input(latents, timestep))
        actual = used.clean(predicted, index, latents)
        if hasattr(other, "convert_model_output"):
            other._step_index = index
            expected = other.convert_model_output(predicted, sample=latents)
        elif name == "flow-euler":
            expected = latents - other.sigmas[index] * predicted
        else:
            expected = other.step(predicted, timestep, latents).pred_original_sample
        scale = float(expected.abs().max())
        assert torch.allclose(actual, expected, rtol=0, atol=2e-6 * scale)
        if name == "lms" and used.predicts == "epsilon":
            assert torch.equal(actual, expected)
        latents = used.step(predicted, index, latents)


@every
def test_a_step_has_less_noise_than_the_one_before(name: str, schedule: dict[str, Any]) -> None:
    used = sampler(name, schedule, 20)
    log_snrs = [level.log_snr for level in used.levels]
    assert len(log_snrs) == 20
    assert all(later > earlier for earlier, later in itertools.pairwise(log_snrs))
    assert log_snrs[0] < -3
    assert log_snrs[-1] > 0


@pytest.mark.parametrize("name", OF_NOISE)
def test_log_snr_of_a_timestep_is_the_same_whatever_the_scale(name: str) -> None:
    """The reference is the schedule of betas itself, in double precision."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    used = sampler(name, NOISE, 10)
    whole = [index for index, time in enumerate(used.timesteps) if float(time) == int(time)]
    assert whole
    for index in whole:
        left = float(kept[int(used.timesteps[index])])
        assert used.levels[index].log_snr == pytest.approx(math.log(left / (1 - left)), abs=1e-3)


@pytest.mark.parametrize("name", OF_FLOWS)
def test_levels_of_a_flow_are_the_time_and_what_is_left_of_one(name: str) -> None:
    used = sampler(name, FLOW, 10)
    for time, level in zip(used.timesteps, used.levels, strict=True):
        # Some schedulers round timesteps to whole numbers.
        assert level.sigma == pytest.approx(float(time) / 1000, abs=1.1e-3)
        assert level.alpha == pytest.approx(1 - level.sigma, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "schedule", "predicts"),
    [
        ("lms", FLOW, "velocity"),
        ("ddim", FLOW, "velocity"),
        ("euler", FLOW, "velocity"),
        ("flow-euler", NOISE, "noise"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused_with_those_that_do(
    name: str, schedule: dict[str, Any], predicts: str
) -> None:
    with pytest.raises(EngineError, match=f"the sampler {name} does not fit") as caught:
        scheduler_of(name, schedule)
    assert predicts in str(caught.value)
    usable = OF_FLOWS if schedule is FLOW else OF_NOISE
    assert f"choose {', '.join(usable)} or model" in str(caught.value)
    for other in usable:
        scheduler_of(other, schedule)


RANDOM = [
    NOISE | {"_class_name": "EulerAncestralDiscreteScheduler"},
    NOISE | {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"},
    FLOW | {"stochastic_sampling": True},
    FLOW | {"_class_name": "FlowMatchHeunDiscreteScheduler"},
]


@pytest.mark.parametrize("schedule", RANDOM, ids=lambda schedule: str(schedule["_class_name"]))
def test_a_random_sampler_of_the_model_gives_way_to_one_that_is_not(
    schedule: dict[str, Any],
) -> None:
    with pytest.raises(
        EngineError,
        match="is not among those supported, which are deterministic with one call per step",
    ):
        scheduler_of("model", schedule)
    name = default_sampler(("model", "flow-euler", "dpm", "unipc"), schedule)
    assert name == ("flow-euler" if "Flow" in schedule["_class_name"] else "dpm")
    ends = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        used = sampler(name, schedule)
        latents = used.start(drawn(0))
        for index in range(STEPS):
            latents = used.step(drawn(index), index, latents)
        ends.append(latents)
    assert torch.equal(*ends)


def test_a_shift_is_kept_whatever_samples_the_flow() -> None:
    sigmas = [sampler(name, FLOW).scheduler.sigmas[2] for name in OF_FLOWS]
    unshifted = sampler("flow-euler", FLOW | {"shift": 1.0}).scheduler.sigmas[2]
    assert all(abs(float(sigma - sigmas[0])) < 0.05 for sigma in sigmas)
    assert abs(float(unshifted - sigmas[0])) > 0.1
    heun = FLOW | {"_class_name": "FlowMatchHeunDiscreteScheduler"}
    assert torch.equal(
        sampler("flow-euler", heun).scheduler.sigmas, sampler("flow-euler", FLOW).scheduler.sigmas
    )


def test_every_name_is_a_class_of_diffusers() -> None:
    assert {*OF_NOISE, *OF_FLOWS} == set(SAMPLERS)
    for kind in SAMPLERS.values():
        assert hasattr(diffusers, kind)


def test_the_models_own_lms_keeps_its_settings() -> None:
    own = NOISE | {
        "_class_name": "LMSDiscreteScheduler",
        "use_karras_sigmas": True,
        "timestep_spacing": "leading",
    }
    reference = diffusers.LMSDiscreteScheduler.from_config(own)
    scheduler = scheduler_of(MODEL, own)
    for each in (reference, scheduler):
        each.set_timesteps(5)
    assert torch.equal(scheduler.timesteps, reference.timesteps)
    assert torch.equal(scheduler.sigmas, reference.sigmas)
    # The paper's takes the noise schedule alone.
    papers = scheduler_of("lms", own)
    papers.set_timesteps(5)
    assert papers.timesteps.tolist() == [999, 749.25, 499.5, 249.75, 0]
