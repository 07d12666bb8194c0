"""Two runs or two profiles of like environments: ratios of median times and of memory, new over base.

Readings that were taken next to each other share what disturbed the machine. So groups of readings that are neighbours
in time are drawn first and readings within them second, which errs on the wide side where readings are independent; p
counts how often a drawn ratio falls on the other side of one. What differed between the two sessions as a whole no
reading can tell: measure them back to back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import numpy as np

from bench.profiling.records import STEP, Profile
from bench.profiling.timing_intervals import Readings, ratio_of_groups
from bench.regression.changes import LATENCY, MEMORY, Change, tested_together
from bench.runs.folder import refuse_changed
from bench.runs.results import CALLS, Results, read_calls
from extract.networks import TRAINED

_ALIKE = ("processor", "gpus", "driver", "cuda", "python")
_OWN = "scenebench"
"""The package whose versions are compared; all others must be the same."""


def unlike(
    base: dict[str, Any], new: dict[str, Any], options: Sequence[tuple[str, object, object]] = ()
) -> str | None:
    """In what two environments (and the given options) differ so that times must not be compared; None if alike."""
    pairs = [(name, base.get(name), new.get(name)) for name in _ALIKE]
    versions = base["versions"], new["versions"]
    names = sorted({*versions[0], *versions[1]} - {_OWN})
    pairs += [(name, *(found.get(name, "none") for found in versions)) for name in names]
    differing = [f"{name} ({a}, {b})" for name, a, b in (*pairs, *options) if a != b]
    return ", ".join(differing) or None


def run_options(base: Results, new: Results) -> list[tuple[str, object, object]]:
    """What decides how long a call of two runs takes."""
    return [
        ("batch", base.config.batch, new.config.batch),
        ("threads", base.threads, new.threads),
        ("ranks", base.world, new.world),
    ]


def profile_options(base: Profile, new: Profile) -> list[tuple[str, object, object]]:
    """What decides how long a call of two profiles takes, the precision of the engines that both have among it."""
    shared = [name for name in base.engines if name in new.engines]
    return [
        *(
            (name, base.options.get(name), new.options.get(name))
            for name in ("model", "weights", "threads")
        ),
        *(
            (f"{name}'s precision", base.engines[name].precision, new.engines[name].precision)
            for name in shared
        ),
    ]


def run_speed(base: Results, new: Results) -> list[Change]:
    """Seconds per row of the trained network, all steps together and each step, and the peak memory of the process.

    Without the memory where ``memory_unlike`` has a reason.
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
    """Why the peaks of runs cannot be compared; None if one process made each of them from end to end."""
    for run in runs:
        if run.processes > 1:
            return f"{run.path} is the work of {run.processes} processes, of which none held all"
    return None


def profile_speed(base: Profile, new: Profile) -> list[Change]:
    """Seconds of one call in steady state per engine and batch, and every engine's peak memory."""
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
        if (
            before
            and after
            and before.rows == after.rows
            and before.peak_bytes
            and after.peak_bytes
        ):
            yield _memory(
                f"{engine}, peak of calls of {before.rows} rows",
                before.peak_bytes,
                after.peak_bytes,
            )


def call_groups(base: Readings, new: Readings) -> list[tuple[str, list[Readings], list[Readings]]]:
    """(where, base, new): seconds per row of the generating network's calls, in groups of neighbours in time.

    Both are calls x (step, network, rows, seconds, ...) in the order in which they were made. First all steps that both
    have, then every step by itself.
    """
    before, after = (calls[calls[:, 1] == 0] for calls in (base, new))
    steps = np.intersect1d(before[:, 0], after[:, 0])
    sites = [(TRAINED, steps), *((f"{TRAINED} step {int(step) + 1}", step[None]) for step in steps)]
    return [(where, _groups(before, some), _groups(after, some)) for where, some in sites]


def _groups(calls: Readings, steps: Readings) -> list[Readings]:
    mine = calls[np.isin(calls[:, 0], steps)]
    return np.array_split(mine[:, 3] / mine[:, 2], max(1, isqrt(len(mine))))


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
