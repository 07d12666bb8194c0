"""Does an engine compute what PyTorch computes? Relative error per layer and step, on given latents and on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tabulate import tabulate
from torch import Tensor

from bench.config import Config
from bench.study import Study, open_study
from engines.backends.torch_eager import BACKEND as REFERENCE
from engines.cache import default_cache
from engines.engine import Engine, Prediction
from extract.trajectory import Step, denoise, in_batches, initial_noise

NOISE = "noise"
LIMIT = 1e-4
"""Largest relative error that counts as equal in fp32."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Relative errors |a - b| / |b| against PyTorch in fp32."""

    given: Mapping[str, list[float]]
    """Per layer (and ``noise``), one value per step, both engines on PyTorch's latents."""
    own: list[float]
    """Of the latents after every step, each engine on its own trajectory."""

    @property
    def worst(self) -> float:
        """The largest error on given latents."""
        return max(max(errors) for errors in self.given.values())


def parity_of(study: Study, engine: Engine, items: int) -> Parity:
    """Generate the first ``items`` test images with PyTorch and with ``engine``."""
    parts = study.components
    reference = REFERENCE.open(parts.unet, study.taps, default_cache(), study.threads)
    chosen = [item for block in study.test for item in block.items][:items]
    noise = initial_noise([item.seed for item in chosen], parts.latent_shape)
    text, empty = parts.embed([item.prompt for item in chosen]), parts.embed([""])
    given: dict[str, list[float]] = {}

    def ours(latents: Tensor, timestep: float, words: Tensor) -> Prediction:
        return in_batches(engine, latents, timestep, words, study.config.batch)

    def both(latents: Tensor, timestep: float, words: Tensor) -> Prediction:
        truth, other = reference(latents, timestep, words), ours(latents, timestep, words)
        for name, value in {NOISE: truth.noise, **truth.taps}.items():
            theirs = other.noise if name == NOISE else other.taps[name]
            given.setdefault(name, []).append(_relative(theirs, value))
        return truth

    def generated(predict: Callable[[Tensor, float, Tensor], Prediction]) -> list[Step]:
        scheduler = parts.scheduler(study.config.sampler_steps)
        return list(denoise(predict, scheduler, noise, text, empty, study.guidance))

    truth, own = generated(both), generated(ours)
    return Parity(given, [_relative(b.latents, a.latents) for a, b in zip(truth, own, strict=True)])


def _relative(ours: Tensor, truth: Tensor) -> float:
    return float((ours - truth).norm() / truth.norm())


def print_parity(config: Config, items: int) -> bool:
    """Print the errors of ``config.engine``; whether all are within the limit."""
    study = open_study(config, labels=False)
    engine = study.opened()
    found = parity_of(study, engine, items)
    steps = range(1, config.sampler_steps + 1)
    rows = [[name, *(f"{error:.1e}" for error in errors)] for name, errors in found.given.items()]
    rows.append(["own trajectory", *(f"{error:.1e}" for error in found.own)])
    print(
        f"{config.engine} against PyTorch on {config.model}: relative error per layer and step, {items} images"
    )
    print(
        tabulate(
            rows,
            headers=["on given latents", *map(str, steps)],
            tablefmt="simple",
            disable_numparse=True,
        )
    )
    within = found.worst <= LIMIT
    print(
        f"largest on given latents {found.worst:.1e}: {'within' if within else 'beyond'} {LIMIT:.0e}"
    )
    return within
