"""The denoising loop: a few latents go from noise to images, and the network is watched at every step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import LMSDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from engines.engine import Engine, Prediction
from engines.host_copy import Copy, Ring, ring_of

_NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Step:
    """What there is to see at one denoising step, conditional branch only."""

    index: int
    """0 to T-1."""
    timestep: float
    """The scheduler's value."""
    sigma: float
    """Noise level of the incoming latents."""
    model_input: Float[Tensor, "n c h w"]
    """The latents as the network sees them, scaled to unit variance."""
    text: Float[Tensor, "n words width"]
    prediction: Prediction
    without: Prediction | None
    """The other half of guidance: the same latents with no prompt. None where there is no guidance."""
    clean: Float[Tensor, "n c h w"]
    """The clean latents that the network's prediction amounts to."""
    latents: Float[Tensor, "n c h w"]
    """After this step."""


def initial_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Float[Tensor, "n c h w"]:
    """Unit noise, one generator per item and on the CPU, so that no batch size changes a bit."""
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def in_batches(
    engine: Engine,
    latents: Float[Tensor, "n c h w"],
    timestep: float,
    text: Float[Tensor, "n words width"],
    batch: int,
    ring_for: Callable[[torch.device], Ring | None] = ring_of,
) -> Prediction:
    """Run ``engine`` on at most ``batch`` rows at a time and join the results on the CPU, in fp32.

    What is born on another device comes through that device's ring, each batch while the engine computes the next; when
    this returns, everything is there. What is born on the CPU is copied only where there is something to join.
    """
    n = len(latents)
    joined: dict[str, Tensor] = {}
    waiting: deque[tuple[int, Copy]] = deque()

    def land() -> None:
        start, copy = waiting.popleft()
        _place(copy.tensors(), joined, start, n)
        copy.release()

    try:
        for start in range(0, n, batch):
            found = engine(latents[start : start + batch], timestep, text[start : start + batch])
            parts, ring = {_NOISE: found.noise, **found.taps}, ring_for(found.noise.device)
            if ring is not None:
                waiting.append((start, ring.put(parts)))
                if len(waiting) == len(ring.slots):
                    land()
            elif n <= batch:
                joined = {name: part.float() for name, part in parts.items()}
            else:
                _place(parts, joined, start, n)
        while waiting:
            land()
    finally:
        # An error has left these; the ring serves others after it.
        for _, copy in waiting:
            copy.release()
    return Prediction(joined.pop(_NOISE), joined)


def _place(parts: Mapping[str, Tensor], joined: dict[str, Tensor], start: int, n: int) -> None:
    """Write a batch's rows, from ``start`` on, into tensors for all ``n``."""
    for name, part in parts.items():
        whole = joined.setdefault(name, torch.empty(n, *part.shape[1:]))
        whole[start : start + len(part)] = part


def denoise(
    predict: Callable[[Tensor, float, Tensor], Prediction],
    scheduler: LMSDiscreteScheduler,
    noise: Float[Tensor, "n c h w"],
    text: Float[Tensor, "n words width"],
    empty: Float[Tensor, "1 words width"],
    guidance: float,
) -> Iterator[Step]:
    """Generate n images with classifier-free guidance, unconditional and conditional half in one batch.

    ``scheduler`` must be fresh: it remembers the steps before. Taps are those of the conditional half.
    """
    n = len(noise)
    latents = noise * scheduler.init_noise_sigma
    both = torch.cat([empty.expand(n, -1, -1), text])
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        model_input = scheduler.scale_model_input(latents, timestep)
        whole = predict(torch.cat([model_input, model_input]), float(timestep), both)
        without, given = _rows(whole, slice(None, n)), _rows(whole, slice(n, None))
        guided = without.noise + guidance * (given.noise - without.noise)
        stepped = scheduler.step(guided, timestep, latents)
        latents = stepped.prev_sample
        clean = stepped.pred_original_sample
        yield Step(index, float(timestep), sigma, model_input, text, given, without, clean, latents)


def _rows(prediction: Prediction, rows: slice) -> Prediction:
    taps = {layer: activation[rows] for layer, activation in prediction.taps.items()}
    return Prediction(prediction.noise[rows], taps)


def renoise(
    predict: Callable[[Tensor, float, Tensor], Prediction],
    scheduler: LMSDiscreteScheduler,
    clean: Float[Tensor, "n c h w"],
    noise: Float[Tensor, "n c h w"],
    text: Float[Tensor, "n words width"],
) -> Iterator[Step]:
    """Show the network given images' latents, noised to every step's level, in place of a trajectory of its own."""
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        noisy = clean + sigma * noise
        model_input = scheduler.scale_model_input(noisy, timestep)
        prediction = predict(model_input, float(timestep), text)
        predicted = scheduler.step(prediction.noise, timestep, noisy).pred_original_sample
        yield Step(
            index, float(timestep), sigma, model_input, text, prediction, None, predicted, noisy
        )
