"""What an entry records of its study: taken from one, and compared with one of this machine."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from bench.config import default_of
from bench.ledger.records import ENTRY, EntryRecord, SamplerRecord
from bench.steps import numbers_of
from bench.study import Study
from engines.samplers import finite_log_snr
from probes.task import Task

_ROUNDING = 1e-6
"""Relative difference of noise levels between processors, and versions of numpy and torch."""


def sampler_record(study: Study, guidance: float | None) -> SamplerRecord:
    """Describe how a study generates."""
    sampler = study.components.sampler(study.config.sampler_steps)
    return SamplerRecord(
        name=study.components.sampler_class,
        source=study.config.source,
        guidance=guidance,
        timesteps=tuple(map(float, sampler.timesteps)),
        sigmas=tuple(level.sigma for level in sampler.levels),
        log_snr=finite_log_snr(sampler),
    )


def layer_paths(study: Study, layers: Collection[str]) -> dict[str, str]:
    """Return layer -> path of the tapped module, in the order of computation."""
    return {tap.layer: tap.path for tap in study.taps if tap.layer in layers}


def changed_names(record: EntryRecord) -> list[str]:
    """Say which names contradict the options of the entry's run."""
    named = {"model": record.model.name, "dataset": record.dataset.name}
    chosen = {what: record.options.get(what, default_of(what)) for what in named}
    return [
        f"{ENTRY} names the {what} {name}, and the options of its run {chosen[what]}"
        for what, name in named.items()
        if name != chosen[what]
    ]


def changed_facts(record: EntryRecord, study: Study) -> list[str]:
    """Say what in an entry is not as its own options make it on this machine."""
    here, stored = sampler_record(study, record.sampler.guidance), record.sampler
    differing = {
        "sampler": (stored.name, here.name),
        "source of the images": (stored.source, here.source),
        "probed steps": (record.steps, numbers_of(study.config.probed_steps)),
        "layers": (record.layers, layer_paths(study, study.layers)),
        "tasks": (sorted(record.tasks), sorted(study.tasks)),
    }
    changed = [what for what, (there, now) in differing.items() if there != now]
    changed += differing_levels(stored, here)
    for name, task in record.tasks.items():
        if name in study.tasks and (
            (task.metric, task.higher_is_better, task.unit) != _headline(study.tasks[name])
        ):
            changed.append(f"metric of {name}, its direction or its unit")
    return [f"{ENTRY} has other {what} than its run has here" for what in changed]


def _headline(task: Task) -> tuple[str, bool, str]:
    metric = task.metrics[0]
    return metric.name, metric.higher_is_better, task.unit


def differing_levels(there: SamplerRecord, here: SamplerRecord) -> list[str]:
    """Name what two descriptions of noise levels differ in by more than rounding.

    Sigmas are in single precision, and processors round them differently: a share of a sigma is an
    absolute difference of its logarithm, which can lie near zero.
    """
    return [
        what
        for what, stored, present, relative, absolute in (
            ("timesteps", there.timesteps, here.timesteps, _ROUNDING, 0.0),
            ("noise levels (sigmas)", there.sigmas, here.sigmas, _ROUNDING, 0.0),
            ("noise levels (log_snr)", there.log_snr, here.log_snr, 0.0, 2 * _ROUNDING),
        )
        if not _close(stored, present, relative, absolute)
    ]


def _close(
    there: Sequence[float | None],
    here: Sequence[float | None],
    relative: float,
    absolute: float,
) -> bool:
    return len(there) == len(here) and all(
        a is b if a is None or b is None else math.isclose(a, b, rel_tol=relative, abs_tol=absolute)
        for a, b in zip(there, here, strict=True)
    )
