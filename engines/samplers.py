"""Samplers: the steps from noise to a clean latent, by diffusers' schedulers.

A latent at a noise level is ``alpha`` times the clean latent plus ``sigma`` times noise. The levels
of samplers differ in scale only where their log-SNR, 2 log(alpha / sigma), agrees; so results of
different samplers are compared at equal log-SNR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from jaxtyping import Float
from torch import Tensor

from engines.configurations import SAMPLER_KEYS, defaults_of
from engines.errors import EngineError
from engines.sampler_names import MODEL, SAMPLERS

_EXPLODING = ("LMSDiscreteScheduler", "EulerDiscreteScheduler")
"""Their latents keep the clean latent's scale, so that alpha is 1."""
_OF_FLOWS = ("flow-euler", "dpm", "unipc")
_OF_NOISE = ("lms", "euler", "ddim", "dpm", "unipc")
FLOW = "flow_prediction"


@dataclass(frozen=True, slots=True)
class Level:
    """A noise level."""

    alpha: float
    """Factor of the clean latent."""
    sigma: float
    """Factor of the noise, in the sampler's own scale."""

    @property
    def log_snr(self) -> float:
        """Logarithm of the signal-to-noise ratio of variances.

        Minus infinity for pure noise, infinity without noise.
        """
        if self.alpha <= 0:
            return -math.inf
        return 2 * math.log(self.alpha / self.sigma) if self.sigma > 0 else math.inf


class Sampler:
    """A scheduler set to a number of steps. It keeps earlier steps: use a new one per batch."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.timesteps: Tensor = scheduler.timesteps
        self.levels: tuple[Level, ...] = tuple(
            _level(scheduler, index) for index in range(len(scheduler.timesteps))
        )
        self.predicts = (
            FLOW
            if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler)
            else str(scheduler.config.prediction_type)
        )

    def start(self, noise: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Latents of the first step from standard normal noise."""
        return noise * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def noised(
        self, clean: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], index: int
    ) -> Float[Tensor, "n c h w"]:
        """Clean latents at the noise level of a step."""
        level = self.levels[index]
        return level.alpha * clean + level.sigma * noise

    def scaled(self, latents: Float[Tensor, "n c h w"], index: int) -> Float[Tensor, "n c h w"]:
        """The network's input at a step: latents, scaled to unit variance where that is usual."""
        if type(self.scheduler).__name__ not in _EXPLODING:
            return latents
        # As diffusers does at its own count of steps, which only advances with ``step``.
        self.scheduler.is_scale_input_called = True
        scaled: Tensor = latents / (self.scheduler.sigmas[index] ** 2 + 1) ** 0.5
        return scaled

    def clean(
        self, predicted: Float[Tensor, "n c h w"], index: int, latents: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """The clean latents that a prediction at a step implies (x0 prediction)."""
        alpha, sigma = self.levels[index].alpha, self.levels[index].sigma
        if self.predicts == "sample":
            return predicted
        if self.predicts == FLOW:
            return latents - sigma * predicted
        if self.predicts == "epsilon":
            return (latents - sigma * predicted) / alpha
        norm = math.hypot(alpha, sigma)
        return alpha / norm**2 * latents - sigma / norm * predicted

    def step(
        self, predicted: Float[Tensor, "n c h w"], index: int, latents: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """The latents after a step."""
        after: Tensor = self.scheduler.step(predicted, self.timesteps[index], latents).prev_sample
        return after


def finite_log_snr(sampler: Sampler) -> tuple[float | None, ...]:
    """The log-SNR of every step; None where it is infinite, as JSON has no infinity.

    That is at pure noise, and at a sigma of 0.
    """
    values = (level.log_snr for level in sampler.levels)
    return tuple(value if math.isfinite(value) else None for value in values)


def scheduler_of(name: str, schedule: Mapping[str, Any]) -> Any:
    """The scheduler of a sampler for a model's own schedule, not yet set to any steps.

    Raises EngineError if the sampler cannot run the model.
    """
    if reason := _refusal(name, schedule):
        raise EngineError(reason)
    own = str(schedule.get("_class_name"))
    flow = is_flow(schedule)
    is_papers = name == "lms"
    if name == MODEL:
        name = next(key for key, value in SAMPLERS.items() if value == own)
    kind = getattr(diffusers, SAMPLERS[name])
    settings = {key: value for key, value in schedule.items() if key in defaults_of(kind)}
    if SAMPLERS[name] != own:
        if flow and name == "flow-euler":
            settings["shift"] = schedule.get("shift", schedule.get("flow_shift", 1.0))
        elif flow:
            settings |= {
                "prediction_type": FLOW,
                "use_flow_sigmas": True,
                "flow_shift": schedule.get("shift", schedule.get("flow_shift", 1.0)),
            }
    if name == "ddim":
        # diffusers' default is for pixels; latents have no bounds.
        settings["clip_sample"] = False
    # The model's own schedule may add noise at every step, where its own sampler is refused.
    settings.pop("stochastic_sampling", None)
    if _is_random(settings):
        settings["algorithm_type"] = "dpmsolver++"
    if is_papers:
        # The paper's sampler takes the noise schedule alone, and spaces its steps evenly.
        settings = {key: schedule[key] for key in SAMPLER_KEYS if key in schedule}
        settings["timestep_spacing"] = "linspace"
    return kind(**settings)


def _refusal(name: str, schedule: Mapping[str, Any]) -> str | None:
    """Why a sampler cannot run a model with this schedule; None if it can."""
    own = str(schedule.get("_class_name"))
    flow = is_flow(schedule)
    usable = _OF_FLOWS if flow else _OF_NOISE
    if name == MODEL and (own not in SAMPLERS.values() or _is_random(schedule)):
        return (
            f"the model's own sampler {own} is not among those supported, which are "
            f"deterministic with one call per step; choose one with --sampler: {', '.join(usable)}"
        )
    if name not in (*usable, MODEL):
        return (
            f"the sampler {name} does not fit this model, which predicts "
            f"{'a velocity between noise and image' if flow else 'noise'}; "
            f"choose {', '.join(usable)} or {MODEL}"
        )
    return None


def _is_random(schedule: Mapping[str, Any]) -> bool:
    """Whether a schedule says that every step adds noise."""
    return (
        str(schedule.get("algorithm_type")).startswith("sde-")
        or schedule.get("stochastic_sampling") is True
    )


def default_sampler(samplers: Sequence[str], schedule: Mapping[str, Any]) -> str:
    """The first of a family's samplers, or else the model's own, or else the first that fits."""
    tried = (samplers[0], MODEL, *samplers)
    return next((name for name in tried if _refusal(name, schedule) is None), samplers[0])


def is_flow(schedule: Mapping[str, Any]) -> bool:
    """Whether a model predicts a velocity between noise and image (rectified flow)."""
    return (
        str(schedule.get("_class_name")).startswith("FlowMatch")
        or schedule.get("use_flow_sigmas") is True
        or schedule.get("prediction_type") == FLOW
    )


def set_steps(scheduler: Any, steps: int, tokens: int, most_shift: float, spaced: bool) -> None:
    """Set the timesteps.

    ``tokens`` is the length of the image's sequence, on which some schedules depend, ``most_shift``
    the largest shift where the schedule names none; ``spaced`` spaces the sigmas of a flow evenly.
    """
    options: dict[str, Any] = {}
    config = scheduler.config
    if config.get("use_dynamic_shifting"):
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        options["mu"] = calculate_shift(
            tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", most_shift),
        )
    if spaced and not config.get("use_flow_sigmas"):
        options["sigmas"] = torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64).tolist()
    scheduler.set_timesteps(steps, **options)


def _level(scheduler: Any, index: int) -> Level:
    name = type(scheduler).__name__
    if name == "DDIMScheduler":
        kept = float(scheduler.alphas_cumprod[int(scheduler.timesteps[index])])
        return Level(math.sqrt(kept), math.sqrt(1 - kept))
    sigma = float(scheduler.sigmas[index])
    if name in _EXPLODING:
        return Level(1.0, sigma)
    if name == SAMPLERS["flow-euler"]:
        return Level(1 - sigma, sigma)
    alpha, scale = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[index])
    return Level(float(alpha), float(scale))
