"""What a profile says, as tables; all of it is derived from the stored readings."""

from __future__ import annotations

import numpy as np
from tabulate import tabulate

from bench.config import Config
from bench.profiling.config import REFERENCE
from bench.profiling.layers import print_layers
from bench.profiling.parity import NOISE
from bench.profiling.records import (
    EXTRACTION,
    FIRST,
    HOOKS_BATCHED,
    HOOKS_ONE,
    OPENING,
    PAINTING,
    STEP,
    UNTAPPED,
    ParityFacts,
    Profile,
)  # fmt: skip
from bench.profiling.timing_intervals import (
    LEVEL,
    PRECISION,
    Estimate,
    Readings,
    quantile,
    ratio,
    total,
)

_MIB = 2**20
UNKNOWN = "-"


def print_profile(profile: Profile) -> None:
    """Print every section that was measured."""
    options, facts = profile.options, profile.environment
    print(
        f"{options['model']} ({options['weights']} weights) on {facts['processor']}, {options['threads']} threads; "
        f"{options['rounds']} rounds, engines in turn, {options['sampler_steps']} steps"
    )
    print(
        f"UNet: {profile.work.parameters / 1e6:.1f} M parameters, {profile.work.flops_per_row / 1e9:.3f} GFLOP per row "
        f"and step, {profile.work.attention_flops_per_row / profile.work.flops_per_row:.0%} of it attention's products"
    )
    for name, rates in profile.peaks.items():
        print(
            f"matrix products, {name}: {max(rates) / 1e9:.1f} GFLOP/s (the best of {len(rates)} rounds)"
        )
    print_steps(profile)
    print_parity(profile)
    print_extraction(profile)
    print_taps(profile)
    print_memory(profile)
    print_layers(profile)
    print_authors(profile)


def _table(title: str, lines: list[str], headers: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}")
    print(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    for line in lines:
        print(f"  {line}")


def shown(estimate: Estimate, digits: int = 2) -> str:
    """A ratio with its interval."""
    if not np.isfinite(estimate.low):
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def milliseconds(seconds: float) -> str:
    """Three significant digits."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def error_of(parity: ParityFacts) -> str:
    """The errors that stand beside every speed: noise and worst tap on given latents, end of the own trajectory."""
    worst_tap = max(max(errors) for name, errors in parity.given.items() if name != NOISE)
    return f"{max(parity.given[NOISE]):.0e} / {worst_tap:.0e} / {parity.own[-1]:.0e}"


_ERROR = "error: noise / tap / own"


def print_steps(profile: Profile) -> None:
    """One engine call: latency, ratio, share of the machine's peak, error."""
    rows = []
    for count in profile.rows_of(STEP, REFERENCE):
        reference = profile.seconds(STEP, REFERENCE, count)
        for name, facts in profile.engines.items():
            readings = profile.seconds(STEP, name, count)
            median = float(np.median(readings))
            rate = count * profile.work.flops_per_row / median
            peak = profile.peaks.get(f"{facts.precision} {facts.device}")
            tails = [quantile(readings, q) for q in (0.9, 0.95)]
            per_image = float(np.median(readings.sum(1))) * 2 / count
            rows.append([
                str(count), name, facts.precision,
                milliseconds(float(profile.seconds(FIRST, name, count)[0, 0])), milliseconds(median),
                *(milliseconds(tail.value) if tail.settled else UNKNOWN for tail in tails),
                str(readings.size), milliseconds(per_image), shown(ratio(reference, readings)),
                f"{rate / 1e9:.1f}", f"{rate / max(peak):.0%}" if peak and rate <= max(peak) else UNKNOWN,
                error_of(facts.parity),
            ])  # fmt: skip
    headers = ["rows", "engine", "precision", "first ms", "median ms", "p90", "p95", "n", "ms per image",
               f"x {REFERENCE}", "GFLOP/s", "MFU", _ERROR]  # fmt: skip
    lines = [
        f"x: median time of {REFERENCE} over the engine's, with its {LEVEL:.0%} interval over rounds and steps; "
        "another precision is another computation: read its error.",
        f"p90, p95: left out ({UNKNOWN}) where their {LEVEL:.0%} rank interval spans more than {PRECISION:.0%}. "
        "An image is two rows (guidance) at every step.",
        f"MFU: share of the best matrix-product rate of that precision ({UNKNOWN}: unknown, or disturbed).",
        "error: relative, against PyTorch in fp32, the largest over steps on its latents, and of the last latents on "
        "the engine's own.",
    ]
    _table("one call of the UNet with all taps (a step)", lines, headers, rows)


def print_parity(profile: Profile) -> None:
    """The error of every tap, and what it does to probes' scores."""
    layers = next(iter(profile.engines.values())).parity.given
    others = {name: facts.parity for name, facts in profile.engines.items() if name != REFERENCE}
    if not others:
        return
    rows = [
        [layer, *(f"{max(parity.given[layer]):.1e}" for parity in others.values())]
        for layer in layers
    ]
    rows.append(
        ["own trajectory, last step", *(f"{parity.own[-1]:.1e}" for parity in others.values())]
    )
    untapped = [
        UNKNOWN if parity.untapped is None else f"{parity.untapped:.1e}"
        for parity in others.values()
    ]
    rows.append(["noise, tapped against untapped", *untapped])
    for index, change in enumerate(next(iter(others.values())).scores):
        found = [parity.scores[index] for parity in others.values()]
        rows.append([
            f"{change.task} {change.metric}, mean and largest of {change.cells} probes",
            *(f"{entry.mean:+.1e}, {entry.largest:.1e}" for entry in found),
        ])  # fmt: skip
    lines = [
        "relative error per tap, largest over steps, on PyTorch's latents; scores: change on the own trajectory."
    ]
    _table("errors against PyTorch in fp32", lines, ["", *others], rows)


def print_extraction(profile: Profile) -> None:
    """Whole extractions and the hooks, images per second."""
    count = int(profile.options["extraction_rows"])
    hooks = {what: profile.rows_of(what, REFERENCE) for what in (HOOKS_ONE, HOOKS_BATCHED)}
    baselines = {
        what: profile.seconds(what, REFERENCE, rows[0]) for what, rows in hooks.items() if rows
    }
    rows = []
    reference = profile.seconds(EXTRACTION, REFERENCE, count)
    if reference.size == 0:
        return
    images = next(sample.images for sample in profile.samples if sample.what == EXTRACTION)
    for name, facts in profile.engines.items():
        with_sums, without = (profile.seconds(what, name, count) for what in (EXTRACTION, PAINTING))
        rows.append([
            name, facts.precision, f"{images / np.median(with_sums):.2f}", shown(ratio(reference, with_sums)),
            *(shown(ratio(readings, with_sums)) for readings in baselines.values()),
            shown(ratio(with_sums, without)), error_of(facts.parity),
        ])  # fmt: skip
    for what, readings in baselines.items():
        against = [shown(ratio(other, readings)) for other in baselines.values()]
        rows.append([what, "fp32", f"{images / np.median(readings):.2f}", shown(ratio(reference, readings)),
                     *against, UNKNOWN, "0 (the reference)"])  # fmt: skip
    headers = ["", "precision", "images/s", f"x {REFERENCE}", *(f"x {what}" for what in baselines),
               "with / without sums", _ERROR]  # fmt: skip
    lines = [
        f"{images} images generated, decoded, labelled, reduced to the probes' sums; at most {count} rows per call.",
        "with / without sums: what the statistics of every probe cost.",
    ]
    if baselines:
        lines.append(
            "hooks: diffusers' pipeline in eager PyTorch, forward hooks keep every activation; no probe is fitted."
        )
    _table("the whole extraction", lines, headers, rows)
    for what, readings in baselines.items():
        _print_speed_up(profile, what, readings, count)


def _print_speed_up(profile: Profile, what: str, baseline: Readings, count: int) -> None:
    """Our default engine, and the fastest of reduced precision, against a baseline."""
    speed = {
        name: ratio(baseline, profile.seconds(EXTRACTION, name, count)) for name in profile.engines
    }
    default = Config().engine
    reduced = [name for name, facts in profile.engines.items() if facts.precision != "fp32"]
    chosen = [("our default", default)] if default in speed else []
    if reduced:
        chosen.append(
            ("fastest of reduced precision", max(reduced, key=lambda name: speed[name].value))
        )
    for label, name in chosen:
        facts = profile.engines[name]
        print(f"  against {what}: {label}, {name} ({facts.precision}, error {error_of(facts.parity)}): "
              f"x {shown(speed[name])}")  # fmt: skip


def print_taps(profile: Profile) -> None:
    """What the taps cost: the tapped engine against the untapped one."""
    rows = []
    for name in profile.engines:
        for count in profile.rows_of(UNTAPPED, name):
            tapped, untapped = (profile.seconds(what, name, count) for what in (STEP, UNTAPPED))
            parity = profile.engines[name].parity
            rows.append([
                name, str(count), milliseconds(float(np.median(untapped))), shown(ratio(tapped, untapped)),
                UNKNOWN if parity.untapped is None else f"{parity.untapped:.0e}", error_of(parity),
            ])  # fmt: skip
    if rows:
        headers = ["engine", "rows", "untapped ms", "tapped / untapped", "noise moved by", _ERROR]
        _table("what the taps cost", [], headers, rows)


def print_memory(profile: Profile) -> None:
    """Memory by kind."""
    rows = []
    for name, facts in profile.engines.items():
        memory = facts.memory
        opening = milliseconds(float(profile.seconds(OPENING, name, 0)[0, 0]))
        if memory:
            kinds = (
                memory.weights_bytes,
                memory.taps_bytes,
                memory.io_bytes,
                memory.opened_bytes,
                memory.peak_bytes,
                memory.device_bytes,
            )
            rows.append(
                [
                    name,
                    *(UNKNOWN if kind is None else f"{kind / _MIB:.1f}" for kind in kinds),
                    opening,
                ]
            )
    if rows:
        headers = [
            "engine, MiB",
            "weights",
            "taps",
            "in + out",
            "opening added",
            "peak above it",
            "device",
            "opening ms",
        ]
        count = next(facts.memory.rows for facts in profile.engines.values() if facts.memory)
        lines = [
            "weights: the UNet's in fp32. peak: resident memory during calls, in a process of its own."
        ]
        _table(f"memory at {count} rows", lines, headers, rows)


def print_authors(profile: Profile) -> None:
    """The published procedure, extrapolated, against our run."""
    if not profile.authors:
        return
    rows = []
    for term in profile.authors:
        mean = float(np.mean(term.samples))
        hours = term.count * mean / 3600
        rows.append(
            [
                term.name,
                f"{term.count:,}",
                milliseconds(mean),
                f"{len(term.samples)}",
                f"{hours:.2f}",
            ]
        )
    theirs = total(
        [term.count for term in profile.authors],
        [np.array(term.samples) for term in profile.authors],
    )
    _table(
        "the published procedure, extrapolated from a few cells",
        [],
        ["term", "count", "mean ms", "n", "hours"],
        rows,
    )
    print(
        f"  sum of count x mean: {shown(_scaled(theirs, 3600))} hours, an extrapolation to both tasks"
    )
    count, items = int(profile.options["extraction_rows"]), int(profile.options["study_items"])
    solving = sum(term.count * float(np.mean(term.samples)) for term in profile.ours)
    for name, facts in profile.engines.items():
        readings = profile.seconds(EXTRACTION, name, count)
        if readings.size:
            images = next(sample.images for sample in profile.samples if sample.what == EXTRACTION)
            ours = items / images * float(np.median(readings)) + solving
            print(
                f"  one pass with {name} ({facts.precision}, error {error_of(facts.parity)}): {items} items x "
                f"{np.median(readings) / images:.3g} s + {solving:.1f} s of solving = {ours / 60:.1f} min: "
                f"{theirs.value / ours:,.0f} times less"
            )


def _scaled(estimate: Estimate, by: float) -> Estimate:
    return Estimate(estimate.value / by, estimate.low / by, estimate.high / by)
