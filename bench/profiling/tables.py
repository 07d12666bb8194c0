"""Print a profile as tables, all derived from the stored readings."""

from __future__ import annotations

import numpy as np

from bench.profiling.config import REFERENCE
from bench.profiling.extraction_tables import print_extraction, print_published
from bench.profiling.formatting import (
    ERROR,
    UNKNOWN,
    error_of,
    milliseconds,
    print_table,
    untapped_error_of,
    with_interval,
)
from bench.profiling.layers import print_layers
from bench.profiling.records import FIRST, OPENING, STEP, UNTAPPED, Profile
from bench.profiling.timing_intervals import LEVEL, PRECISION, quantile, ratio
from bench.profiling.worst import worst

_MIB = 2**20


def print_profile(profile: Profile) -> None:
    """Print every part that was measured."""
    options, work = profile.options, profile.work
    print(
        f"{options.model} ({options.weights} weights) on {profile.environment['processor']}, "
        f"{options.threads} threads; {options.rounds} rounds, engines in turn, "
        f"{options.sampler_steps} steps"
    )
    print(
        f"UNet: {work.parameters / 1e6:.1f} M parameters, "
        f"{work.flops_per_row / 1e9:.3f} GFLOP per row and step, "
        f"{work.attention_flops_per_row / work.flops_per_row:.0%} of it in attention products"
    )
    for name, rates in profile.peaks.items():
        best = max(rates) / 1e9
        print(f"matrix products, {name}: {best:.1f} GFLOP/s (the best of {len(rates)} rounds)")
    print_calls(profile)
    print_parity(profile)
    print_extraction(profile)
    print_taps(profile)
    print_memory(profile)
    print_layers(profile)
    print_published(profile)


def print_calls(profile: Profile) -> None:
    """Print latency, ratio, share of peak and error of single engine calls."""
    rows = [
        _call_row(profile, name, count)
        for count in profile.rows_of(STEP, REFERENCE)
        for name in profile.engines
    ]
    headers = ["rows", "engine", "precision", "first ms", "median ms", "p90", "p95", "n"]
    headers += ["ms per image", f"x {REFERENCE}", "GFLOP/s", "MFU", ERROR]
    notes = [
        f"x: median time of {REFERENCE} over the engine's, with its {LEVEL:.0%} interval over "
        "rounds and steps; another precision is another computation: see its error.",
        f"p90, p95: left out ({UNKNOWN}) where their {LEVEL:.0%} rank interval spans more than "
        f"{PRECISION:.0%}. An image is {_rows_of_image(profile)} at every step.",
        "MFU: share of the best matrix-product rate of that precision "
        f"({UNKNOWN}: unknown, or disturbed).",
        "error: relative, against PyTorch in fp32: the largest over steps on its latents, and of "
        "the last latents on the engine's own trajectory.",
    ]
    print_table("one call of the UNet with all taps (a step)", headers, rows, notes)


def _rows_of_image(profile: Profile) -> str:
    return "one row" if profile.options.guidance is None else "two rows (guidance)"


def _call_row(profile: Profile, name: str, count: int) -> list[str]:
    facts = profile.engines[name]
    reference = profile.seconds(STEP, REFERENCE, count)
    readings = profile.seconds(STEP, name, count)
    median = float(np.median(readings))
    rate = count * profile.work.flops_per_row / median
    peak = max(profile.peaks.get(f"{facts.precision} {facts.device}", [0.0]))
    tails = [quantile(readings, q) for q in (0.9, 0.95)]
    return [
        str(count),
        name,
        facts.precision,
        milliseconds(float(profile.seconds(FIRST, name, count)[0, 0])),
        milliseconds(median),
        *(milliseconds(tail.value) if tail.settled else UNKNOWN for tail in tails),
        str(readings.size),
        milliseconds(
            float(np.median(readings.sum(1))) * (1 + (profile.options.guidance is not None)) / count
        ),
        with_interval(ratio(reference, readings)),
        f"{rate / 1e9:.1f}",
        f"{rate / peak:.0%}" if rate <= peak else UNKNOWN,
        error_of(facts.parity),
    ]


def print_parity(profile: Profile) -> None:
    """Print the error of every tap, and the changes of the probes' scores."""
    layers = next(iter(profile.engines.values())).parity.given
    others = {name: facts.parity for name, facts in profile.engines.items() if name != REFERENCE}
    if not others:
        return
    parities = others.values()
    rows = [[layer, *(f"{worst(one.given[layer]):.1e}" for one in parities)] for layer in layers]
    rows.append(["own trajectory, last step", *(f"{one.own[-1]:.1e}" for one in parities)])
    rows.append(
        ["noise, tapped against untapped", *(untapped_error_of(one, digits=1) for one in parities)]
    )
    for same_scores in zip(*(one.scores for one in parities), strict=True):
        first = same_scores[0]
        title = f"{first.task} {first.metric}, mean and largest of {first.cells} probes"
        rows.append([title, *(f"{one.mean:+.1e}, {one.largest:.1e}" for one in same_scores)])
    notes = [
        "relative error per tap, largest over steps, on PyTorch's latents; "
        "scores: change on the own trajectory."
    ]
    print_table("errors against PyTorch in fp32", ["", *others], rows, notes)


def print_taps(profile: Profile) -> None:
    """Print the cost of taps: the tapped engine against the untapped one."""
    rows = []
    for name, facts in profile.engines.items():
        for count in profile.rows_of(UNTAPPED, name):
            tapped, untapped = (profile.seconds(what, name, count) for what in (STEP, UNTAPPED))
            rows.append(
                [
                    name,
                    str(count),
                    milliseconds(float(np.median(untapped))),
                    with_interval(ratio(tapped, untapped)),
                    untapped_error_of(facts.parity, digits=0),
                    error_of(facts.parity),
                ]
            )
    if rows:
        headers = ["engine", "rows", "untapped ms", "tapped / untapped", "noise moved by", ERROR]
        print_table("what the taps cost", headers, rows)


def print_memory(profile: Profile) -> None:
    """Print the memory of every engine by kind."""
    memories = {
        name: facts.memory for name, facts in profile.engines.items() if facts.memory is not None
    }
    if not memories:
        return
    rows = []
    for name, memory in memories.items():
        kinds = (
            memory.weights_bytes,
            memory.taps_bytes,
            memory.io_bytes,
            memory.opened_bytes,
            memory.peak_bytes,
            memory.device_bytes,
        )
        sizes = [UNKNOWN if kind is None else f"{kind / _MIB:.1f}" for kind in kinds]
        opening = milliseconds(float(profile.seconds(OPENING, name, 0)[0, 0]))
        rows.append([name, *sizes, opening])
    headers = ["engine, MiB", "weights", "taps", "in + out", "opening added", "peak above it"]
    headers += ["device", "opening ms"]
    note = "weights: the UNet in fp32. peak: resident memory during calls, in a separate process."
    count = next(iter(memories.values())).rows
    print_table(f"memory at {count} rows", headers, rows, [note])
