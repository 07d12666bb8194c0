"""The self-check of a machine: every part within its share of a time budget."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import torch
from tqdm import tqdm

from bench.config import Config, default_of
from bench.environment import environment
from bench.machine.agreement import agreement_of
from bench.machine.clock import copy_rates, matrix_peaks
from bench.machine.engines import Extent, engine_rates, full_size, kinds_of
from bench.machine.parts import autoencoder_rates, bootstrap_rate, label_rates, text_rates
from bench.machine.records import SCHEMA, EngineRates, Machine, PartRates
from bench.machine.statistics import rates_at_widths, score_rates, storing_seconds
from bench.planning.estimate import plan_of
from bench.planning.plan import Plan
from bench.profiling.config import REFERENCE
from bench.registry import plugin, plugins, usable_engine
from bench.study import Study, open_study

ON_A_CARD = "torch_cuda_fp16"
SLOW_TO_OPEN = ("torch_compile", "tensorrt", "onnxruntime_tensorrt")
"""Engines that compile for minutes when they are first opened."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how much is measured."""

    seconds: float = 60.0
    """Budget of all repeated calls. Opening engines, exports and parity come on top of it."""
    last_opening_seconds: float = 130.0
    """No further engine is opened after so many seconds."""
    widths: tuple[int, ...] = (64, 160, 320, 640, 1280)
    """Channels at which statistics are measured, those of Stable Diffusion v1 among them."""
    items: int = 8
    """Images of a whole extraction."""
    sampler_steps: int = 15
    at_full_size: bool = True
    agreement_items: int = 24
    """Items of the small run on a card."""


def measure(engine: str | None, threads: int | None, effort: Effort) -> Machine:
    """Measure this machine. Raises UserError for an engine that cannot be used here.

    ``engine`` is measured alone; by default the card's or the CPU's engine comes first, and other
    usable engines follow.
    """
    started = time.perf_counter()
    main, *others = _names(engine)
    slow = [name for name in others if name in SLOW_TO_OPEN]
    others = [name for name in others if name not in slow]
    left_out = dict.fromkeys(slow, "compiles for minutes; name it with --engine")
    config = Config(engine=main, threads=threads, sampler_steps=effort.sampler_steps)
    parts = tqdm(total=8, desc="measuring", unit="part", file=sys.stderr)
    share = effort.seconds / 12
    study, plan = open_study(config), plan_of(config, 0)
    torch.set_num_threads(study.threads)
    device = plugin("engine", main).device
    peaks = matrix_peaks(kinds_of([main, *others]), share / 2)
    parts.update()
    extent = Extent(share, effort.items)
    engines = [engine_rates(main, study, peaks, plan.flops_per_row, extent)]
    parts.update()
    if effort.at_full_size:
        large = full_size(main, study.threads, peaks, 2 * share)
        engines[0] = engines[0].model_copy(update={"full_size": large})
    parts.update()
    statistics = tuple(rates_at_widths(effort.widths, study.threads, device, 2 * share))
    parts.update()
    scoring = score_rates(device, share)
    parts.update()
    autoencoder = autoencoder_rates(study, device, share, effort.at_full_size)
    text = text_rates(study, device, share, effort.at_full_size)
    labels = label_rates(study, share / 2)
    parts.update()
    agreement = None
    if device != "cpu":
        agreement = agreement_of(
            main, _cpu_engine(), study.threads, effort.agreement_items, effort.sampler_steps
        )
    parts.update()
    for name in others:
        if time.perf_counter() - started > effort.last_opening_seconds:
            left_out[name] = "the time was up; name it with --engine"
            continue
        extent = Extent(share / len(others), effort.items)
        engines.append(engine_rates(name, study, peaks, plan.flops_per_row, extent))
    parts.update()
    parts.close()
    return Machine(
        version=SCHEMA,
        environment=environment(),
        threads=study.threads,
        took_seconds=time.perf_counter() - started,
        model=config.model,
        flops_per_row=plan.flops_per_row,
        parameters=next(iter(plan.sizes.parameters.values())),
        tap_values=plan.sizes.tap_values,
        peaks=peaks,
        engines=tuple(engines),
        left_out=left_out,
        statistics=statistics,
        autoencoder=autoencoder,
        text=text,
        pixel_seconds=labels,
        score_seconds=scoring.scores,
        target_seconds=scoring.target_pixels,
        sweep_seconds=scoring.sweep,
        interval_seconds=bootstrap_rate(),
        check_seconds=_check_seconds(
            engines[0], study, plan, autoencoder[0], text[0], labels["tiny"]
        ),
        storing_seconds=storing_seconds(max(effort.widths)),
        copies=copy_rates(device, share / 2),
        card_bytes=_card_bytes(device),
        agreement=agreement,
    )


def _names(engine: str | None) -> list[str]:
    """Engines to measure, the main one first."""
    if engine is not None:
        usable_engine(engine)
        return [engine]
    usable = [name for name in plugins("engine") if plugin("engine", name).unavailable() is None]
    wanted = (ON_A_CARD, str(default_of("engine")), REFERENCE)
    main = next(name for name in wanted if name in usable)
    return [main, *(name for name in usable if name != main)]


def _cpu_engine() -> str:
    default = str(default_of("engine"))
    return REFERENCE if plugin("engine", default).unavailable() else default


def _check_seconds(
    engine: EngineRates,
    study: Study,
    plan: Plan,
    autoencoder: PartRates,
    text: PartRates,
    label_pixel_seconds: float,
) -> float:
    """What generating takes beside its networks and labels, per value of all taps."""
    height, width = study.components.image_size
    rows = study.config.sampler_steps * study.rows_per_step
    per_image = engine.generation_seconds / engine.images
    networks = rows * engine.row_seconds + autoencoder.seconds + text.seconds
    rest = per_image - networks - height * width * label_pixel_seconds
    return max(0.0, rest) / (rows * plan.sizes.tap_values)


def _card_bytes(device: str) -> int | None:
    if device == "cpu":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)
