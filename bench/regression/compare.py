"""Compare two run folders or two profile folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import UserError
from bench.profiling.records import PROFILE, read_profile
from bench.regression.changes import LATENCY, MEMORY, Change, Tolerance, tolerances
from bench.regression.scores import metric_names, quality_changes
from bench.regression.speed import (
    memory_unlike,
    profile_options,
    profile_speed,
    run_options,
    run_speed,
    unlike,
)
from bench.runs.calls import CALLS
from bench.runs.conditions import MODEL_WEIGHTS, differences
from bench.runs.folder import CONFIG, RUN
from bench.runs.results import Results, read_results


@dataclass(frozen=True, slots=True)
class Family:
    """Changes that were tested together."""

    what: str
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two folders, compared."""

    families: list[Family]
    tolerated: dict[str, Tolerance]
    left_out: list[str]
    """Sentences about comparisons that were not possible and that ``--fail-on`` does not name."""
    unequal: list[str] = field(default_factory=list)
    """Sentences about conditions, such as the sampler, in which the two differ."""

    @property
    def regressions(self) -> list[Change]:
        """Changes that are worse by more than their tolerance."""
        changes = [change for family in self.families for change in family.changes]
        return [
            change for change in changes if change.is_regression(self.tolerated.get(change.name))
        ]


def compared(base: Path, new: Path, fail_on: str | None) -> Comparison:
    """Compare two folders of one kind. Raises UserError if they are not, or not comparable."""
    kinds = [_kind(folder) for folder in (base, new)]
    if kinds[0] != kinds[1]:
        raise UserError(f"{base} is a {kinds[0]} and {new} is a {kinds[1]}; compare two of a kind")
    return (_runs if kinds[0] == "run" else _profiles)(base, new, fail_on)


def _kind(folder: Path) -> str:
    if (folder / PROFILE).exists():
        return "profile"
    if (folder / RUN).exists() or (folder / CONFIG).exists():
        return "run"
    raise UserError(f"{folder} is neither a run folder nor a profile folder")


def _runs(base: Path, new: Path, fail_on: str | None) -> Comparison:
    before, after = read_results(base), read_results(new)
    metrics = metric_names(before, after)
    tolerated = tolerances(fail_on, [*metrics, LATENCY, MEMORY]) if fail_on is not None else {}
    named = [name for name in metrics if name in tolerated]
    families = [Family("scores", quality_changes(before, after, named))]
    unequal = [
        f"the runs differ in {name}: {base} has {values[0]}, {new} has {values[1]}"
        for name, values in (
            differences([before, after]) | _model_and_engine(before, after)
        ).items()
    ]
    reason = unlike(
        before.environment.as_json(), after.environment.as_json(), run_options(before, after)
    )
    # Runs of older code have none; of others the file is read, and refused where it is missing.
    missing = [
        str(results.path)
        for results in (before, after)
        if CALLS not in results.record.sha256 and not (results.path / CALLS).exists()
    ]
    if reason is None and missing:
        reason = f"{' and '.join(missing)} have no {CALLS}; run again with this version"
    if reason is not None:
        if LATENCY in tolerated or MEMORY in tolerated:
            raise UserError(f"times of unlike environments cannot be compared: {reason}")
        left_out = [f"speed is not compared: {reason}"]
        return Comparison(families, tolerated, left_out, unequal)
    partial = memory_unlike(before, after)
    if partial is not None and MEMORY in tolerated:
        raise UserError(f"memory cannot be compared: {partial}")
    left_out = [] if partial is None else [f"memory is not compared: {partial}"]
    return Comparison(
        [*families, Family("speed and memory", run_speed(before, after))],
        tolerated,
        left_out,
        unequal,
    )


def _model_and_engine(base: Results, new: Results) -> dict[str, list[str]]:
    """What else tells two runs' scores apart: their models and engines, where they differ."""
    values = {
        "model": [base.config.model, new.config.model],
        MODEL_WEIGHTS: [str(run.facts.get(MODEL_WEIGHTS, "?")) for run in (base, new)],
        "engine": [base.config.engine, new.config.engine],
    }
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}


def _profiles(base: Path, new: Path, fail_on: str | None) -> Comparison:
    before, after = read_profile(base), read_profile(new)
    tolerated = tolerances(fail_on, [LATENCY, MEMORY]) if fail_on is not None else {}
    reason = unlike(before.environment, after.environment, profile_options(before, after))
    if reason is not None:
        raise UserError(f"times of unlike profiles cannot be compared: {reason}")
    changes = profile_speed(before, after)
    if not changes:
        raise UserError(
            f"{base} and {new} share no engine and batch size; profile both with the same ones"
        )
    compared_names = {change.name for change in changes}
    for name in tolerated:
        if name not in compared_names:
            raise UserError(
                f"{base} and {new} have no {name} in common, which --fail-on names; profile both "
                f"with the same engines and rows, and without --skip {name}"
            )
    left_out = []
    if MEMORY not in compared_names:
        left_out.append("memory is not compared: not both profiles have it")
    left_out += [
        f"{name} is not compared: only {folder} has it"
        for folder, own, other in ((base, before, after), (new, after, before))
        for name in own.engines
        if name not in other.engines
    ]
    return Comparison([Family("speed and memory", changes)], tolerated, left_out)
