"""Ratios of median times and of memory between two runs or profiles of like environments.

Neighbouring readings share disturbances of the machine. The bootstrap therefore draws groups of
neighbours in time first and readings within them second, which gives too wide intervals where
readings are independent. p counts how often a drawn ratio falls on the other side of one. Readings
do not show differences between the two sessions as a whole: measure them back to back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import numpy as np

from bench.profiling.records import STEP, Profile
from bench.profiling.timing_intervals import Readings, ratio_of_groups
from bench.regression.changes import LATENCY, MEMORY, Change, tested_together
from bench.runs.calls import CALLS, read_calls
from bench.runs.folder import refuse_changed
from bench.runs.results import Results
from extract.networks import TRAINED

_ALIKE = ("processor", "gpus", "driver", "cuda", "python")
_OWN = "scenebench"
"""The package whose versions may differ; those of all others must be equal."""


def unlike(
    base: dict[str, Any], new: dict[str, Any], options: Sequence[tuple[str, object, object]] = ()
) -> str | None:
    """Differences of environments and options that forbid a comparison of times; None if alike."""
    pairs = [(name, base.get(name), new.get(name)) for name in _ALIKE]
    versions = base["versions"], new["versions"]
    names = sorted({*versions[0], *versions[1]} - {_OWN})
    pairs += [(name, *(installed.get(name, "none") for installed in versions)) for name in names]
    differing = [f"{name} ({a}, {b})" for name, a, b in (*pairs, *options) if a != b]
    return ", ".join(differing) or None


def run_options(base: Results, new: Results) -> list[tuple[str, object, object]]:
    """Options of two runs that determine the time of a call."""
    return [
        ("batch", base.config.batch, new.config.batch),
        ("threads", base.threads, new.threads),
        ("ranks", base.world, new.world),
        *(
            (name, getattr(base.config, name), getattr(new.config, name))
            for name in ("size", "width", "taps")
        ),
    ]


def profile_options(base: Profile, new: Profile) -> list[tuple[str, object, object]]:
    """Options of two profiles, and precisions of shared engines, that determine a call's time."""
    return [
        *(
            (name, getattr(base.options, name), getattr(new.options, name))
            for name in ("model", "weights", "threads")
        ),
        *(
            (f"{name}'s precision", facts.precision, new.engines[name].precision)
            for name, facts in base.engines.items()
            if name in new.engines
        ),
    ]


def run_speed(base: Results, new: Results) -> list[Change]:
    """Changes of the trained network's seconds per row, over all steps and per step, and of memory.

    Memory is left out where ``memory_unlike`` gives a reason.
    """
    for results in (base, new):
        refuse_changed(results.path, results.record, (CALLS,))
    changes = [_latency(*pair) for pair in call_groups(read_calls(base.path), read_calls(new.path))]
    if memory_unlike(base, new) is None:
        changes.append(
            _memory("peak of the process", base.record.peak_bytes, new.record.peak_bytes)
        )
    return tested_together(changes)


def memory_unlike(*runs: Results) -> str | None:
    """Why the peaks of runs cannot be compared; None if each run is the work of one process."""
    for run in runs:
        if run.processes > 1:
            return f"{run.path} is the work of {run.processes} processes, of which none held all"
    return None


def profile_speed(base: Profile, new: Profile) -> list[Change]:
    """Changes of the seconds of a steady call per engine and batch, and of peak memory."""
    return tested_together(_profile_changes(base, new))


def _profile_changes(base: Profile, new: Profile) -> Iterator[Change]:
    for engine, facts in base.engines.items():
        if engine not in new.engines:
            continue
        for rows in base.rows_of(STEP, engine):
            if rows in new.rows_of(STEP, engine):
                b, a = (list(profile.seconds(STEP, engine, rows)) for profile in (base, new))
                yield _latency(f"{engine}, {rows} rows", b, a)
        before, after = facts.memory, new.engines[engine].memory
        # Another number of rows is other work.
        if before and after and before.rows == after.rows:
            where = f"{engine}, peak of calls of {before.rows} rows"
            if before.peak_bytes and after.peak_bytes:
                yield _memory(where, before.peak_bytes, after.peak_bytes)


def call_groups(base: Readings, new: Readings) -> list[tuple[str, list[Readings], list[Readings]]]:
    """(where, base, new): seconds per row of the trained network, in groups of neighbours in time.

    Both arguments are calls x (step, network, rows, seconds, ...) in the order of the calls. The
    first entry covers all shared steps, the others one step each.
    """
    before, after = (calls[calls[:, 1] == 0] for calls in (base, new))
    steps = np.intersect1d(before[:, 0], after[:, 0])
    sites = [(TRAINED, steps), *((f"{TRAINED} step {int(step) + 1}", step[None]) for step in steps)]
    return [(where, _groups(before, some), _groups(after, some)) for where, some in sites]


def _groups(calls: Readings, steps: Readings) -> list[Readings]:
    chosen = calls[np.isin(calls[:, 0], steps)]
    return np.array_split(chosen[:, 3] / chosen[:, 2], max(1, isqrt(len(chosen))))


def _latency(where: str, base: Sequence[Readings], new: Sequence[Readings]) -> Change:
    value, low, high, p = ratio_of_groups(new, base)
    before, after = (1e3 * float(np.median(np.concatenate(groups))) for groups in (base, new))
    span = f"x {value:.3f} [{low:.3f}, {high:.3f}]"
    sure = (low - 1) * before
    return Change(LATENCY, f"{where} (ms)", before, after, after - before, span, p, sure_loss=sure)


def _memory(where: str, base: int, new: int) -> Change:
    before, after = base / 2**20, new / 2**20
    return Change(
        MEMORY,
        f"{where} (MiB)",
        before,
        after,
        after - before,
        f"x {after / before:.3f}",
        np.nan,
        is_single=True,
    )
