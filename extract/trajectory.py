"""The denoising loop: from noise to clean latents, yielding the state of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.engine import Engine, Prediction
from engines.samplers import Level, Sampler

_NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Step:
    """Inputs, predictions and results of one denoising step; taps are of the conditional half."""

    index: int
    """0 to T-1."""
    timestep: float
    """The sampler's value."""
    level: Level
    """Noise level of the incoming latents."""
    model_input: Float[Tensor, "n c h w"]
    """The network's input: the latents scaled to unit variance."""
    conditioning: Conditioning
    prediction: Prediction
    unconditional: Prediction | None
    """The prediction for the same latents with the empty prompt; None without guidance."""
    clean: Float[Tensor, "n c h w"]
    """The predicted clean latents (x0 prediction)."""
    latents: Float[Tensor, "n c h w"]
    """The latents after this step."""


def initial_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Float[Tensor, "n c h w"]:
    """Standard normal noise from one CPU generator per item, so batch sizes change no bit."""
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def in_batches(
    engine: Engine,
    latents: Float[Tensor, "n c h w"],
    timestep: float,
    conditioning: Conditioning,
    batch: int,
) -> Prediction:
    """Run ``engine`` on at most ``batch`` rows at a time and join the results on their device.

    The noise prediction is in fp32, and taps are in the engine's precision. Results are copied only
    if there are several batches to join.
    """
    n = len(latents)
    joined: dict[str, Tensor] = {}
    for start in range(0, n, batch):
        rows = slice(start, start + batch)
        prediction = engine(latents[rows], timestep, conditioning[rows])
        parts = {_NOISE: prediction.noise.float(), **prediction.taps}
        if n <= batch:
            joined = parts
            continue
        for name, part in parts.items():
            whole = joined.setdefault(name, part.new_empty(n, *part.shape[1:]))
            whole[rows] = part
    return Prediction(joined.pop(_NOISE), joined)


Predict = Callable[[Tensor, float, Conditioning], Prediction]
"""(model input, timestep, conditioning) -> prediction."""


def denoise(
    predict: Predict,
    sampler: Sampler,
    noise: Float[Tensor, "n c h w"],
    conditioning: Conditioning,
    empty: Conditioning,
    guidance: float | None,
) -> Iterator[Step]:
    """Generate n latents with classifier-free guidance, both halves in one batch.

    ``empty`` is the conditioning of an empty prompt, one row. Without ``guidance`` there is only
    the half with the prompt. ``sampler`` must be new, as it keeps the previous steps.
    """
    n = len(noise)
    latents = sampler.start(noise)
    if guidance is None:
        both = conditioning
    else:
        both = Conditioning.joined([empty.expand(n), conditioning])
    for index, timestep in enumerate(sampler.timesteps.tolist()):
        model_input = sampler.scaled(latents, index)
        halves = model_input if guidance is None else torch.cat([model_input, model_input])
        whole = predict(halves, float(timestep), both)
        cond, uncond, guided = whole, None, whole.noise
        if guidance is not None:
            uncond, cond = _rows(whole, slice(None, n)), _rows(whole, slice(n, None))
            guided = uncond.noise + guidance * (cond.noise - uncond.noise)
        clean = sampler.clean(guided, index, latents)
        latents = sampler.step(guided, index, latents)
        yield Step(
            index=index,
            timestep=float(timestep),
            level=sampler.levels[index],
            model_input=model_input,
            conditioning=conditioning,
            prediction=cond,
            unconditional=uncond,
            clean=clean,
            latents=latents,
        )


def _rows(prediction: Prediction, rows: slice) -> Prediction:
    taps = {layer: activation[rows] for layer, activation in prediction.taps.items()}
    return Prediction(prediction.noise[rows], taps)


def renoise(
    predict: Predict,
    sampler: Sampler,
    clean: Float[Tensor, "n c h w"],
    noise: Float[Tensor, "n c h w"],
    conditioning: Conditioning,
) -> Iterator[Step]:
    """Noise clean latents to the level of every step and predict from them, without guidance."""
    for index, timestep in enumerate(sampler.timesteps.tolist()):
        noisy = sampler.noised(clean, noise, index)
        model_input = sampler.scaled(noisy, index)
        prediction = predict(model_input, float(timestep), conditioning)
        yield Step(
            index=index,
            timestep=float(timestep),
            level=sampler.levels[index],
            model_input=model_input,
            conditioning=conditioning,
            prediction=prediction,
            unconditional=None,
            clean=sampler.clean(prediction.noise, index, noisy),
            latents=noisy,
        )
