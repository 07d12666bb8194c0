"""Relative errors of an engine against PyTorch, per layer and step, on given and own latents."""

from __future__ import annotations

from tabulate import tabulate
from torch import Tensor

from bench.config import Config
from bench.profiling.records import ParityFacts
from bench.profiling.worst import relative_error
from bench.study import Study, open_study
from engines.backends.torch_eager import BACKEND as REFERENCE
from engines.cache import default_cache
from engines.conditioning import Conditioning
from engines.engine import Engine, Prediction
from extract.trajectory import Predict, Step, denoise, in_batches, initial_noise

NOISE = "noise"
LIMIT = 1e-4
"""Largest relative error that counts as equal in fp32."""


def parity_of(study: Study, engine: Engine, items: int) -> ParityFacts:
    """Errors |a - b| / |b| of ``engine`` on the first ``items`` test images."""
    parts = study.components
    reference = REFERENCE.open(parts.denoiser, study.taps, default_cache(), study.threads)
    chosen = [item for block in study.test for item in block.items][:items]
    noise = initial_noise([item.seed for item in chosen], parts.latent_shape)
    text, empty = parts.embed([item.prompt for item in chosen]), parts.embed([""])
    given: dict[str, list[float]] = {}

    def predict(latents: Tensor, timestep: float, words: Conditioning) -> Prediction:
        return in_batches(engine, latents, timestep, words, study.config.batch).cpu()

    def predict_both(latents: Tensor, timestep: float, words: Conditioning) -> Prediction:
        expected, actual = reference(latents, timestep, words), predict(latents, timestep, words)
        for name, value in {NOISE: expected.noise, **expected.taps}.items():
            other = actual.noise if name == NOISE else actual.taps[name]
            given.setdefault(name, []).append(relative_error(other, value))
        return expected

    def trajectory(predictor: Predict) -> list[Step]:
        sampler = parts.sampler(study.config.sampler_steps)
        return list(denoise(predictor, sampler, noise, text, empty, study.guidance))

    steps = zip(trajectory(predict_both), trajectory(predict), strict=True)
    own = [relative_error(actual.latents, expected.latents) for expected, actual in steps]
    return ParityFacts(given, own)


def print_parity(config: Config, items: int) -> bool:
    """Print the errors of ``config.engine``; return whether all are within the limit."""
    study = open_study(config, labels=False)
    parity = parity_of(study, study.opened(), items)
    headers = ["on given latents", *map(str, range(1, config.sampler_steps + 1))]
    errors = {**parity.given, "own trajectory": parity.own}
    rows = [[name, *(f"{error:.1e}" for error in values)] for name, values in errors.items()]
    print(
        f"{config.engine} against PyTorch on {config.model}: "
        f"relative error per layer and step, {items} images"
    )
    print(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    within = parity.worst <= LIMIT
    verdict = "within" if within else "beyond"
    print(f"largest on given latents {parity.worst:.1e}: {verdict} {LIMIT:.0e}")
    return within
