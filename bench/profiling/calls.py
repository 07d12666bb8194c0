"""Time single engine calls and whole extractions."""

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
    GENERATION,
    NO_STEP,
    OPENING,
    STEP,
    UNTAPPED,
    LayerSample,
    Sample,
)
from bench.profiling.worst import relative_error, worst
from bench.registry import plugin
from bench.study import Study
from datasets.splits import Block, draws_of
from engines.cache import default_cache
from engines.conditioning import Conditioning
from engines.cuda_stream import own_device, wait_for
from engines.engine import Backend, Engine, reserved
from engines.layer_times import Profiled
from extract.stream import Reducer
from extract.trajectory import initial_noise
from probes.accumulate import Accumulator
from probes.moments import CPU
from probes.statistics import SufficientStatistics


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """An opened engine, and the same one opened without taps."""

    name: str
    backend: Backend
    engine: Engine
    untapped: Engine | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of a trajectory of calls; unit noise stands in for the scaled latents."""

    latents: Float[Tensor, "n c h w"]
    conditioning: Conditioning
    timesteps: tuple[float, ...]


def inputs_of(study: Study, rows: int) -> Inputs:
    """Inputs of ``rows`` rows from the test split, whose items repeat if there are too few."""
    items = [item for block in study.test for item in block.items]
    chosen = [items[row % len(items)] for row in range(rows)]
    parts = study.components
    timesteps = parts.sampler(study.config.sampler_steps).timesteps
    return Inputs(
        initial_noise([item.seed for item in chosen], parts.latent_shape),
        parts.embed([item.prompt for item in chosen]),
        tuple(float(timestep) for timestep in timesteps),
    )


def open_engine(
    name: str, study: Study, rows: int, without_taps: bool
) -> tuple[OpenedEngine, Sample]:
    """Open an engine for calls of up to ``rows`` rows, and time that."""
    backend: Backend = plugin("engine", name)
    cache, denoiser = default_cache(), study.components.denoiser
    engine, seconds = timed(
        lambda: reserved(backend.open(denoiser, study.taps, cache, study.threads), rows)
    )
    untapped = (
        reserved(backend.open(denoiser, (), cache, study.threads), rows) if without_taps else None
    )
    opening = Sample(OPENING, name, 0, 0, 0, NO_STEP, seconds)
    return OpenedEngine(name, backend, engine, untapped), opening


def first_calls(opened: OpenedEngine, inputs: Inputs, without_taps: bool) -> Iterator[Sample]:
    """The first call of a batch size, which may compile or allocate; a second is not recorded."""
    rows, timestep = len(inputs.latents), inputs.timesteps[0]
    engines = {FIRST: opened.engine, UNTAPPED: opened.untapped if without_taps else None}
    for what, engine in engines.items():
        if engine is not None:
            seconds = _call(engine, inputs, timestep, opened.backend.device)
            _call(engine, inputs, timestep, opened.backend.device)
            if what == FIRST:
                yield Sample(FIRST, opened.name, rows, 0, 0, NO_STEP, seconds)


def steady_calls(engines: Sequence[OpenedEngine], inputs: Inputs, number: int) -> Iterator[Sample]:
    """One trajectory of calls per engine, tapped and untapped; the order rotates with the round."""
    start = number % len(engines)
    for opened in (*engines[start:], *engines[:start]):
        for what, engine in ((STEP, opened.engine), (UNTAPPED, opened.untapped)):
            if engine is not None:
                for step, timestep in enumerate(inputs.timesteps):
                    seconds = _call(engine, inputs, timestep, opened.backend.device)
                    yield Sample(what, opened.name, len(inputs.latents), 0, number, step, seconds)


def _call(engine: Engine, inputs: Inputs, timestep: float, device: str) -> float:
    return timed(lambda: engine(inputs.latents, timestep, inputs.conditioning), device)[1]


def untapped_error(opened: OpenedEngine, inputs: Inputs) -> float | None:
    """Largest relative error over steps of the tapped engine's noise against the untapped one's."""
    if opened.untapped is None:
        return None
    errors = []
    for timestep in inputs.timesteps:
        tapped = opened.engine(inputs.latents, timestep, inputs.conditioning).noise
        untapped = opened.untapped(inputs.latents, timestep, inputs.conditioning).noise
        errors.append(relative_error(tapped, untapped))
    return worst(errors)


def extractions(
    opened: OpenedEngine, study: Study, blocks: Sequence[Block], rows: int, number: int
) -> list[Sample]:
    """Extract the blocks in calls of ``rows`` rows, with and without accumulating statistics."""
    images, device = sum(len(block.items) for block in blocks), own_device(opened.backend.device)
    samples = []
    study.components.send(device)
    try:
        if device != CPU:
            # The libraries of a GPU initialise at their first use.
            extract(opened, study, blocks[:1], rows, True)
        for what, accumulate in ((EXTRACTION, True), (GENERATION, False)):
            _, seconds = timed(partial(extract, opened, study, blocks, rows, accumulate))
            samples.append(Sample(what, opened.name, rows, images, number, NO_STEP, seconds))
    finally:
        # The other engines share the components.
        study.components.send(CPU)
    return samples


def extract(
    opened: OpenedEngine, study: Study, blocks: Sequence[Block], rows: int, accumulate: bool
) -> list[SufficientStatistics]:
    """Generate the blocks; return their statistics, or nothing without ``accumulate``."""
    recorded, device = alone(study, opened.engine, rows), own_device(opened.backend.device)
    sums = []
    for block in blocks:
        accumulator = Accumulator(
            study.tasks, block.permutations(draws_of([block], study.draws)), device
        )
        reducers: list[Reducer] = [accumulator] if accumulate else []
        study.stream(recorded, block.items, reducers, range(recorded.steps))
        if accumulate:
            sums.append(accumulator.sums())
    wait_for(device)
    return sums


def layer_samples(
    opened: OpenedEngine, inputs: Inputs, calls: int
) -> tuple[list[LayerSample], float | None]:
    """Own times of all modules at every step, and their share of the calls' time.

    Empty and None for an engine without a layer profiler.
    """
    engine, rows = opened.engine, len(inputs.latents)
    if not isinstance(engine, Profiled):
        return [], None
    samples, total = [], 0.0
    with torch.inference_mode():
        for step, timestep in enumerate(inputs.timesteps):
            times = engine.layer_times(inputs.latents, timestep, inputs.conditioning, calls)
            total += times.total_seconds
            samples += [
                LayerSample(
                    opened.name, rows, step, timestep, entry.module, entry.kind, entry.seconds
                )
                for entry in times.entries
            ]
    return samples, sum(sample.seconds for sample in samples) / total
