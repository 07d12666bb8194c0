"""Engines against the clock: single calls and whole extractions, each engine in its turn in every round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from bench.measure import timed
from bench.networks import alone
from bench.profiling.records import (
    EXTRACTION,
    FIRST,
    NO_STEP,
    OPENING,
    PAINTING,
    STEP,
    UNTAPPED,
    LayerSample,
    Sample,
)
from bench.registry import plugin
from bench.study import Study
from datasets.splits import Block, draws_of
from engines.cache import default_cache
from engines.cuda_stream import own_device
from engines.engine import Backend, Engine, reserved
from engines.layer_times import Profiled
from extract.stream import Reducer
from extract.trajectory import initial_noise
from probes.accumulate import Accumulator
from probes.moments import CPU
from probes.statistics import SufficientStatistics


@dataclass(frozen=True, slots=True)
class Contender:
    """An opened engine, and the same one opened without taps."""

    name: str
    backend: Backend
    engine: Engine
    untapped: Engine | None

    @property
    def device(self) -> str:
        """Where it computes, as torch names devices."""
        return self.backend.device

    @property
    def precision(self) -> str:
        """What it computes in."""
        return self.backend.precision


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a trajectory of calls is given; unit noise stands for the latents, which the sampler scales to that."""

    latents: Float[Tensor, "n c h w"]
    text: Float[Tensor, "n words width"]
    timesteps: tuple[float, ...]


def inputs_of(study: Study, rows: int) -> Inputs:
    """Inputs of ``rows`` rows: items of the test split, again from the first when there are too few."""
    items = [item for block in study.test for item in block.items]
    chosen = [items[row % len(items)] for row in range(rows)]
    parts = study.components
    return Inputs(
        initial_noise([item.seed for item in chosen], parts.latent_shape),
        parts.embed([item.prompt for item in chosen]),
        tuple(
            float(timestep) for timestep in parts.scheduler(study.config.sampler_steps).timesteps
        ),
    )


def contend(name: str, study: Study, rows: int, without_taps: bool) -> tuple[Contender, Sample]:
    """Open an engine for calls of up to ``rows`` rows, and time that."""
    backend: Backend = plugin("engine", name)
    cache, unet = default_cache(), study.components.unet
    engine, seconds = timed(
        lambda: reserved(backend.open(unet, study.taps, cache, study.threads), rows)
    )
    untapped = (
        reserved(backend.open(unet, (), cache, study.threads), rows) if without_taps else None
    )
    return Contender(name, backend, engine, untapped), Sample(
        OPENING, name, 0, 0, 0, NO_STEP, seconds
    )


def first_calls(contender: Contender, given: Inputs, without_taps: bool) -> Iterator[Sample]:
    """The first call of a batch size, which may compile or allocate; then one that is not recorded."""
    rows, timestep = len(given.latents), given.timesteps[0]
    engines = {FIRST: contender.engine, UNTAPPED: contender.untapped if without_taps else None}
    for what, engine in engines.items():
        if engine is not None:
            seconds = _call(engine, given, timestep, contender.device)
            _call(engine, given, timestep, contender.device)
            if what == FIRST:
                yield Sample(FIRST, contender.name, rows, 0, 0, NO_STEP, seconds)


def steady_calls(contenders: Sequence[Contender], given: Inputs, number: int) -> Iterator[Sample]:
    """One trajectory of calls per engine, tapped and untapped; who goes first changes from round to round."""
    start = number % len(contenders)
    for contender in (*contenders[start:], *contenders[:start]):
        for what, engine in ((STEP, contender.engine), (UNTAPPED, contender.untapped)):
            if engine is not None:
                for step, timestep in enumerate(given.timesteps):
                    seconds = _call(engine, given, timestep, contender.device)
                    yield Sample(what, contender.name, len(given.latents), 0, number, step, seconds)


def _call(engine: Engine, given: Inputs, timestep: float, device: str) -> float:
    return timed(lambda: engine(given.latents, timestep, given.text), device)[1]


def untapped_error(contender: Contender, given: Inputs) -> float | None:
    """Largest relative error, over the steps, of the tapped engine's noise prediction against the untapped one's."""
    if contender.untapped is None:
        return None
    errors = []
    for timestep in given.timesteps:
        ours = contender.engine(given.latents, timestep, given.text).noise
        truth = contender.untapped(given.latents, timestep, given.text).noise
        errors.append(float((ours - truth).norm() / truth.norm()))
    return max(errors)


def extractions(
    contender: Contender, study: Study, blocks: Sequence[Block], rows: int, number: int
) -> list[Sample]:
    """The real extraction of the blocks, with and without the probes' statistics, engine calls of ``rows`` rows."""
    images, device = sum(len(block.items) for block in blocks), own_device(contender.device)
    samples = []
    study.components.send(device)
    try:
        if device != CPU:
            # A card's libraries start at their first use.
            extract(contender, study, blocks[:1], rows, True)
        for what, gathering in ((EXTRACTION, True), (PAINTING, False)):
            _, seconds = timed(partial(extract, contender, study, blocks, rows, gathering))
            samples.append(Sample(what, contender.name, rows, images, number, NO_STEP, seconds))
    finally:
        # Other contenders share them.
        study.components.send(CPU)
    return samples


def extract(
    contender: Contender, study: Study, blocks: Sequence[Block], rows: int, gathering: bool
) -> list[SufficientStatistics]:
    """Generate the blocks; their sums if they were gathered."""
    recorded, device = alone(study, contender.engine, rows), own_device(contender.device)
    sums = []
    for block in blocks:
        accumulator = Accumulator(
            study.tasks, block.permutations(draws_of([block], study.draws)), device
        )
        reducers: list[Reducer] = [accumulator] if gathering else []
        study.stream(recorded, block.items, reducers, range(recorded.steps))
        if gathering:
            sums.append(accumulator.sums())
    return sums


def layer_samples(
    contender: Contender, given: Inputs, calls: int
) -> tuple[list[LayerSample], float | None]:
    """Every module's own time at every step, and their share of the calls; nothing from an engine that cannot tell."""
    engine = contender.engine
    if not isinstance(engine, Profiled):
        return [], None
    samples, known, whole = [], 0.0, 0.0
    with torch.inference_mode():
        for step, timestep in enumerate(given.timesteps):
            times = engine.layer_times(given.latents, timestep, given.text, calls)
            known += sum(entry.seconds for entry in times.entries)
            whole += times.total_seconds
            rows = len(given.latents)
            samples += [
                LayerSample(
                    contender.name, rows, step, timestep, entry.module, entry.kind, entry.seconds
                )
                for entry in times.entries
            ]
    return samples, known / whole
