"""The cost of a run, stage by stage: its counts times the rates of a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.machine.curve import Curve
from bench.planning.plan import Plan

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds per unit of everything that a run does; measured, or assumed of a published card."""

    name: str
    network: Curve
    """Operations per row -> operations per second of the denoiser, with taps."""
    autoencoder: Curve
    """Operations per image -> operations per second."""
    text: Curve
    """Operations per prompt -> operations per second."""
    opening: Callable[[int], float]
    """Parameters -> seconds to load and open one denoiser."""
    sums: Curve
    """Columns -> seconds per token."""
    reads: Curve
    """Channels -> seconds per token."""
    problems: Curve
    """Features -> seconds per eigenproblem."""
    targets: Curve
    """Features -> seconds per column of targets and eigenproblem."""
    scores: Mapping[str, float]
    """Task -> seconds per cell, image and token."""
    target_pixels: Mapping[str, float]
    """Task -> seconds per pixel."""
    sweep: float
    """Seconds per cell, image and token."""
    interval: float
    """Seconds per cell, metric and image."""
    check: float
    """Seconds per value of all taps."""
    storing: float
    """Seconds per byte of a shard."""
    labels: float | None
    """Seconds per pixel; None where the labeler's cost is not known."""
    to_host: float | None = None
    """Bytes per second; None without a card."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: so many units take so many seconds."""

    name: str
    count: float
    unit: str
    seconds: float


def stages_of(plan: Plan, rates: Rates) -> tuple[Stage, ...]:
    """All stages of a run, in the order in which it needs them; their seconds add up to its time.

    Stages are added without overlap.
    """
    work, sizes = plan.work, plan.sizes
    rows = plan.engine_rows
    values = rows * sizes.tap_values
    sums = sizes.exact if plan.width is None else sizes.sketched
    shard_bytes = sums.shards * sums.shard_bytes
    per_task = work.scored.keys()
    scoring = sum(
        _of(rates.scores, task) * work.scored[task]
        + _of(rates.target_pixels, task) * work.target_pixels[task]
        for task in per_task
    )
    denoiser = next(iter(sizes.parameters.values()))
    stages = [
        Stage(
            "loading and opening",
            sizes.engines,
            "denoisers",
            sizes.engines * rates.opening(denoiser),
        ),
        Stage(
            "text encoders",
            plan.prompts,
            "prompts",
            plan.prompt_flops / rates.text(max(plan.flops_per_prompt, 1)),
        ),
        Stage("denoisers, with taps", rows, "rows", plan.flops / rates.network(plan.flops_per_row)),
        Stage("sampler, joins and checks", values, "values", values * rates.check),
        Stage(
            "autoencoder",
            plan.decodings,
            "images",
            plan.decoding_flops / rates.autoencoder(plan.flops_per_decoding),
        ),
    ]
    if rates.labels is not None:
        pixels = work.labelled_pixels
        stages.append(Stage("labels", pixels, "pixels", pixels * rates.labels))
    if rates.to_host is not None:
        copied = shard_bytes + 3 * _FP32_BYTES * work.labelled_pixels
        stages.append(Stage("sums and images to the host", copied, "bytes", copied / rates.to_host))
    return (
        *stages,
        _at_sizes("sums in float64", work.summed, "tokens", rates.sums),
        Stage("storing and adding sums", shard_bytes, "bytes", shard_bytes * rates.storing),
        _at_sizes("eigenproblems", work.problems, "problems", rates.problems),
        _at_sizes("weights and losses", work.targets, "columns", rates.targets),
        _at_sizes("predictions of probes", work.read, "tokens", rates.reads),
        Stage("thresholds", work.swept, "cell-tokens", work.swept * rates.sweep),
        Stage("scores", sum(work.scored.values()), "cell-tokens", scoring),
        Stage("intervals", work.intervals, "cell-images", work.intervals * rates.interval),
    )


def seconds_of(stages: tuple[Stage, ...]) -> float:
    """The time of a run."""
    return sum(stage.seconds for stage in stages)


def card_bytes(plan: Plan, value_bytes: int) -> int:
    """Memory that a run takes on a card: weights, taps of a call, a block's activations and sums.

    ``value_bytes`` are those of a weight and of an activation in the engine's precision. Working
    memory of the engine's layers is not known. Activations go to the CPU where they do not fit.
    """
    denoiser, *others = plan.sizes.parameters.values()
    taps = value_bytes * plan.sizes.tap_values * plan.sizes.rows
    weights = value_bytes * denoiser * plan.sizes.engines + _FP32_BYTES * sum(others)
    sums = plan.sizes.exact if plan.width is None else plan.sizes.sketched
    # Sums are whole matrices there, and triangles in a shard.
    kept = value_bytes * plan.work.block_values + 2 * sums.shard_bytes
    return weights + taps + kept + ROWS_BYTES


ROWS_BYTES = 3 * (8 << 25)
"""Rows of activations and targets in float64 while sums are computed: joined, and centred."""


def _at_sizes(name: str, counts: Mapping[int, int], unit: str, rate: Curve) -> Stage:
    seconds = sum(count * rate(size) for size, count in counts.items())
    return Stage(name, sum(counts.values()), unit, seconds)


def _of(rates: Mapping[str, float], task: str) -> float:
    """The rate of a task; of one that was not measured, the largest rate."""
    return rates[task] if task in rates else max(rates.values())
