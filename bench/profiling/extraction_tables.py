"""Print whole extractions beside the baselines of a profile."""

from __future__ import annotations

import numpy as np

from bench.config import Config
from bench.profiling.config import REFERENCE
from bench.profiling.formatting import (
    ERROR,
    UNKNOWN,
    error_of,
    milliseconds,
    print_table,
    with_interval,
)
from bench.profiling.records import (
    EXTRACTION,
    GENERATION,
    HOOKS_BATCHED,
    HOOKS_ONE,
    Profile,
)
from bench.profiling.timing_intervals import Estimate, Readings, ratio, total


def print_extraction(profile: Profile) -> None:
    """Print images per second of whole extractions and of the hooks."""
    count, images = profile.options.extraction_rows, profile.extraction_images
    reference = profile.seconds(EXTRACTION, REFERENCE, count)
    if reference.size == 0:
        return
    baselines = {
        what: profile.seconds(what, REFERENCE, rows)
        for what in (HOOKS_ONE, HOOKS_BATCHED)
        for rows in profile.rows_of(what, REFERENCE)
    }
    rows = []
    for name, facts in profile.engines.items():
        whole, generation = (
            profile.seconds(what, name, count) for what in (EXTRACTION, GENERATION)
        )
        rows.append(
            [
                name,
                facts.precision,
                *_speeds(whole, images, [reference, *baselines.values()]),
                with_interval(ratio(whole, generation)),
                error_of(facts.parity),
            ]
        )
    for what, readings in baselines.items():
        speeds = _speeds(readings, images, [reference, *baselines.values()])
        rows.append([what, "fp32", *speeds, UNKNOWN, "0 (the reference)"])
    headers = ["", "precision", "images/s", f"x {REFERENCE}", *(f"x {what}" for what in baselines)]
    headers += ["with / without sums", ERROR]
    notes = [
        f"{images} images generated, decoded, labelled, reduced to the probes' statistics; "
        f"at most {count} rows per call.",
        "with / without sums: the cost of the statistics of all probes.",
    ]
    if baselines:
        notes.append(
            "hooks: diffusers' pipeline in eager PyTorch, forward hooks keep every activation; "
            "no probe is fitted."
        )
    print_table("the whole extraction", headers, rows, notes)
    for what, readings in baselines.items():
        _print_speed_up(profile, what, readings)


def _speeds(readings: Readings, images: int, references: list[Readings]) -> list[str]:
    """Images per second, and the speed relative to each of the references."""
    ratios = [with_interval(ratio(reference, readings)) for reference in references]
    return [f"{images / np.median(readings):.2f}", *ratios]


def _print_speed_up(profile: Profile, what: str, baseline: Readings) -> None:
    """Print the default engine and the fastest of reduced precision against a baseline."""
    count = profile.options.extraction_rows
    speeds = {
        name: ratio(baseline, profile.seconds(EXTRACTION, name, count)) for name in profile.engines
    }
    default = Config().engine
    chosen = [("default engine", default)] if default in speeds else []
    reduced = [name for name, facts in profile.engines.items() if facts.precision != "fp32"]
    if reduced:
        fastest = max(reduced, key=lambda name: np.nan_to_num(speeds[name].value, nan=-np.inf))
        chosen.append(("fastest of reduced precision", fastest))
    for label, name in chosen:
        facts = profile.engines[name]
        print(
            f"  against {what}: {label}, {name} "
            f"({facts.precision}, error {error_of(facts.parity)}): x {with_interval(speeds[name])}"
        )


def print_published(profile: Profile) -> None:
    """Print the extrapolated time of the published procedure, and that of a run."""
    terms = profile.authors
    if not terms:
        return
    rows = []
    for term in terms:
        mean = float(np.mean(term.samples))
        size = [f"{term.count:,}", milliseconds(mean), f"{len(term.samples)}"]
        rows.append([term.name, *size, f"{term.count * mean / 3600:.2f}"])
    published = total([term.count for term in terms], [np.array(term.samples) for term in terms])
    hours = Estimate(published.value / 3600, published.low / 3600, published.high / 3600)
    title = "the published procedure, extrapolated from a few cells"
    note = f"sum of count x mean: {with_interval(hours)} hours, an extrapolation to both tasks"
    print_table(title, ["term", "count", "mean ms", "n", "hours"], rows, [note])
    solving = sum(term.count * float(np.mean(term.samples)) for term in profile.solving)
    items, images = profile.options.study_items, profile.extraction_images
    for name, facts in profile.engines.items():
        readings = profile.seconds(EXTRACTION, name, profile.options.extraction_rows)
        if readings.size:
            per_item = float(np.median(readings)) / images
            seconds = items * per_item + solving
            print(
                f"  one pass with {name} ({facts.precision}, error {error_of(facts.parity)}): "
                f"{items} items x {per_item:.3g} s + {solving:.1f} s of solving = "
                f"{seconds / 60:.1f} min: {published.value / seconds:,.0f} times less"
            )
