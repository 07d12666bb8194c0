"""Contract and speed of engines on the shipped model, and of one of them at full size."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import median

import torch

from bench.machine.clock import peak_name, usual
from bench.machine.records import EngineRates, FullSize
from bench.measure import timed
from bench.profiling.calls import (
    extractions,
    first_calls,
    inputs_of,
    open_engine,
    steady_calls,
)
from bench.profiling.flops import work_of
from bench.profiling.parity import parity_of
from bench.profiling.records import EXTRACTION, GENERATION, OPENING, STEP, UNTAPPED, Sample
from bench.profiling.worst import worst
from bench.registry import plugin
from bench.study import Study
from datasets.splits import blocks_of
from engines.cache import default_cache
from engines.denoiser import Denoiser
from engines.engine import ATTENTION, Backend, Tap, reserved
from engines.models.sd_v1 import WORDS, untrained

_ROWS = {"cpu": 8, "cuda": 16}
"""Rows per call of the shipped model."""
_FULL_ROWS = {"cpu": 1, "cuda": 16}
"""Rows per call at full size; one keeps all cores of a CPU busy."""
_LATENT = (4, 64, 64)
_TIMESTEP = 500.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much an engine is measured on."""

    seconds: float
    """For the calls in a steady state; opening and parity take what they take."""
    items: int
    """Images of a whole extraction."""


def engine_rates(
    name: str, study: Study, peaks: Mapping[str, float], flops_per_row: float, extent: Extent
) -> EngineRates:
    """Open an engine, compare it with PyTorch, and time calls and extractions."""
    backend: Backend = plugin("engine", name)
    rows = _rows(backend, _ROWS)
    opened, opening = open_engine(name, study, rows, without_taps=True)
    inputs = inputs_of(study, rows)
    for _ in first_calls(opened, inputs, without_taps=True):
        pass
    parity = parity_of(study, opened.engine, 1)
    samples: list[Sample] = [opening]
    started, number = time.perf_counter(), 0
    while not number or time.perf_counter() - started < extent.seconds:
        samples += steady_calls([opened], inputs, number)
        number += 1
    test = [item for block in study.test for item in block.items][: extent.items]
    samples += extractions(opened, study, blocks_of(test, "test"), rows, 0)
    seconds: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        seconds[sample.what].append(sample.seconds)
    row_seconds = median(seconds[STEP]) / rows
    errors = {tap: worst(values) for tap, values in parity.given.items()}
    return EngineRates(
        name=name,
        precision=backend.precision,
        device=backend.device,
        errors={tap: None if isnan(error) else error for tap, error in errors.items()},
        rows=rows,
        row_seconds=row_seconds,
        untapped_row_seconds=median(seconds[UNTAPPED]) / rows,
        opening_seconds=seconds[OPENING][0],
        images=len(test),
        generation_seconds=seconds[GENERATION][0],
        extraction_seconds=seconds[EXTRACTION][0],
        share=_share(flops_per_row / row_seconds, backend, peaks),
    )


def full_size(name: str, threads: int, peaks: Mapping[str, float], seconds: float) -> FullSize:
    """Time an engine on Stable Diffusion v1's UNet; on a CPU, on its outer level."""
    backend: Backend = plugin("engine", name)
    rows = _rows(backend, _FULL_ROWS)
    on_cpu = backend.device == "cpu"
    denoiser, taps = outer_level() if on_cpu else _whole()
    work, _ = work_of(denoiser, taps, WORDS)
    engine, opening = timed(
        lambda: reserved(backend.open(denoiser, taps, default_cache(), threads), rows)
    )
    latents, conditioning = denoiser.example(rows, WORDS)
    call_seconds = usual(lambda: engine(latents, _TIMESTEP, conditioning), seconds, backend.device)
    row_seconds = call_seconds / rows
    return FullSize(
        what=f"{'the outer level' if on_cpu else 'all'} of Stable Diffusion v1's UNet",
        flops_per_row=work.flops_per_row,
        rows=rows,
        row_seconds=row_seconds,
        share=_share(work.flops_per_row / row_seconds, backend, peaks),
        parameters=work.parameters,
        opening_seconds=opening,
    )


def outer_level() -> tuple[Denoiser, tuple[Tap, ...]]:
    """Blocks like those at full resolution of Stable Diffusion v1's UNet, and their taps.

    The whole network has three times as many operations, and 33 times as many weights.
    """
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=_LATENT[1],
            block_out_channels=(320,),
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            layers_per_block=1,
            cross_attention_dim=768,
        )
    return _wrapped(unet)


def _whole() -> tuple[Denoiser, tuple[Tap, ...]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _wrapped(untrained())


def _wrapped(unet: torch.nn.Module) -> tuple[Denoiser, tuple[Tap, ...]]:
    from engines.families.unet import FAMILY

    module = unet.requires_grad_(False).eval()
    return FAMILY.wrapped(module, _LATENT), FAMILY.taps(module, ATTENTION, _LATENT)


def _rows(backend: Backend, rows: Mapping[str, int]) -> int:
    return rows["cpu" if backend.device == "cpu" else "cuda"]


def _share(rate: float, backend: Backend, peaks: Mapping[str, float]) -> float | None:
    peak = peaks.get(peak_name(backend.precision, backend.device))
    return None if peak is None else rate / peak


def kinds_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """(precision, device) of all peaks to measure: those of the engines, and float64 for sums."""
    backends: list[Backend] = [plugin("engine", name) for name in names]
    kinds = [(backend.precision, backend.device) for backend in backends]
    doubles = [("fp64", backend.device) for backend in backends]
    singles = [("fp32", backend.device) for backend in backends]
    return list(dict.fromkeys([*singles, *kinds, *doubles]))
