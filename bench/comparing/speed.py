"""Two runs or two profiles of like environments: ratios of median times and of memory, new over base.

Readings that were taken next to each other share what disturbed the machine. So groups of neighbouring readings are
drawn first and readings within them second, which errs on the wide side where readings are independent; p counts how
often a drawn ratio falls on the other side of one. What differed between the two sessions as a whole no reading can
tell: measure them back to back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.comparing.changes import Change, tested_together
from bench.comparing.tolerances import LATENCY, MEMORY
from bench.integrity import refuse_changed
from bench.profiling.results import STEP, Profile
from bench.results import CALLS, Results, read_calls
from extract.names import TRAINED
from probes.bootstrap import LEVEL, TEST_DRAWS

Readings = NDArray[np.float64]
_ALIKE = ("processor", "cores", "python")
_OWN = "scenebench"
"""The package whose versions are compared; all others must be the same."""


def unlike(base: dict[str, Any], new: dict[str, Any], options: Sequence[tuple[str, object, object]] = ()) -> str | None:
    """In what two environments (and the given options) differ so that times must not be compared; None if alike."""
    pairs = [(name, base.get(name), new.get(name)) for name in _ALIKE]
    versions = base["versions"], new["versions"]
    names = sorted({*versions[0], *versions[1]} - {_OWN})
    pairs += [(name, *(found.get(name, "none") for found in versions)) for name in names]
    differing = [f"{name} ({a}, {b})" for name, a, b in (*pairs, *options) if a != b]
    return ", ".join(differing) or None


def ratio(new: Sequence[Readings], base: Sequence[Readings], seed: int = 0) -> tuple[float, float, float, float]:
    """(ratio of medians, low, high, p), from groups of readings; nan ends and p where a side has a single reading."""
    value = float(np.median(np.concatenate(new)) / np.median(np.concatenate(base)))
    if min(sum(map(len, new)), sum(map(len, base))) < 2:
        return value, np.nan, np.nan, np.nan
    rng = np.random.default_rng(seed)
    draws = _drawn_medians(new, rng) / _drawn_medians(base, rng)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min(int((draws <= 1).sum()), int((draws >= 1).sum()))
    return value, float(low), float(high), min(1.0, 2 * (1 + beyond) / (TEST_DRAWS + 1))


def _drawn_medians(groups: Sequence[Readings], rng: np.random.Generator) -> Readings:
    lengths = np.array([len(group) for group in groups])
    table = np.array([np.resize(group, lengths.max()) for group in groups])
    # As many readings from every drawn group, so that all draws are one array.
    row = rng.integers(len(groups), size=(TEST_DRAWS, len(groups), 1))
    column = rng.integers(lengths[row], size=(TEST_DRAWS, len(groups), lengths.max()))
    medians: Readings = np.median(table[row, column], axis=(1, 2))
    return medians


def run_options(base: Results, new: Results) -> list[tuple[str, object, object]]:
    """Options of two runs that decide how long a call takes."""
    return [(name, base.options[name], new.options[name]) for name in ("batch", "threads")]


def profile_options(base: Profile, new: Profile) -> list[tuple[str, object, object]]:
    """Options of two profiles that decide how long a call takes."""
    return [(name, base.options[name], new.options[name]) for name in ("threads",)]


def run_speed(base: Results, new: Results) -> list[Change]:
    """Seconds per row of the trained network, all steps together and each step, and the peak memory of the process."""
    before, after = _seconds_per_row(base), _seconds_per_row(new)
    steps = sorted(set(before) & set(after))
    pairs: list[tuple[str, Readings, Readings]] = [
        (TRAINED, np.concatenate([before[s] for s in steps]), np.concatenate([after[s] for s in steps]))
    ]
    pairs += [(f"{TRAINED} step {step + 1}", before[step], after[step]) for step in steps]
    changes = [_latency(where, _groups(b), _groups(a)) for where, b, a in pairs]
    return tested_together(
        [*changes, _memory("peak of the process", base.facts["peak_bytes"], new.facts["peak_bytes"])]
    )


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
        memory = facts.memory, new.engines[engine].memory
        if memory[0] and memory[1] and memory[0].peak_bytes and memory[1].peak_bytes:
            yield _memory(f"{engine}, peak of calls", memory[0].peak_bytes, memory[1].peak_bytes)


def _seconds_per_row(results: Results) -> dict[int, Readings]:
    refuse_changed(results.path, results.facts, (CALLS,))
    calls = read_calls(results.path)
    mine = calls[calls[:, 1] == 0]
    return {int(step): mine[mine[:, 0] == step, 3] / mine[mine[:, 0] == step, 2] for step in np.unique(mine[:, 0])}


def _groups(readings: Readings) -> list[Readings]:
    return np.array_split(readings, max(1, isqrt(len(readings))))


def _latency(where: str, base: Sequence[Readings], new: Sequence[Readings]) -> Change:
    value, low, high, p = ratio(new, base)
    before, after = (1e3 * float(np.median(np.concatenate(groups))) for groups in (base, new))
    return Change(LATENCY, f"{where} (ms)", before, after, after - before, f"x {value:.3f} [{low:.3f}, {high:.3f}]", p)


def _memory(where: str, base: int, new: int) -> Change:
    before, after = base / 2**20, new / 2**20
    return Change(
        MEMORY, f"{where} (MiB)", before, after, after - before, f"x {after / before:.3f}", np.nan, is_single=True
    )
