"""Run arms: generate every trial, or read it from disk, and collect the scores."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.adam_vs_ridge.fits import PublishedProbes, published_probes
from bench.errors import UserError
from bench.interventions.arms import (
    CONTROLNET,
    CONTROLNET_CONTROLS,
    CONTROLS,
    EDIT,
    LATE,
    RANDOM,
    UNMOVED,
    Arm,
    EditProbes,
)
from bench.interventions.config import Plan
from bench.interventions.controlnet import Steering, folder_for
from bench.interventions.generator import ImageGenerator, Originals
from bench.interventions.records import FOLDER, SCHEMA
from bench.interventions.reference import Reference
from bench.interventions.shifts import Offset
from bench.interventions.targets import aimed, offsets_for
from bench.interventions.trials import Trials
from bench.runs.probes import StoredProbes
from bench.runs.reopen import reopened
from bench.runs.results import Results
from bench.study import Study
from datasets.items import Item, Split
from engines.cache import key_of
from extract.shards import Shards
from probes.probe_set import PERMUTED

_ORIGINALS_PER_BATCH = 8


@dataclass(frozen=True)
class EditableRun:
    """A finished run whose images can be generated again with edits."""

    results: Results
    study: Study
    generator: ImageGenerator
    shards: Shards

    def items(self, split: Split) -> list[Item]:
        """Return the run's items of one split."""
        blocks = self.study.test if split == "test" else self.study.train
        return [item for block in blocks for item in block.items]

    def facts_of(self, arm: Arm) -> dict[str, str]:
        """Return what tells an arm's stored trials from others': its key and its ControlNet."""
        if arm.method == CONTROLNET and self.generator.steering:
            return {"arm": arm.key, "controlnet": self.generator.steering.fingerprint}
        return {"arm": arm.key}

    def originals(self, items: Sequence[Item]) -> Iterator[Originals]:
        """Yield the unedited images of items in batches, from disk or generated now."""
        for start in range(0, len(items), _ORIGINALS_PER_BATCH):
            batch = tuple(items[start : start + _ORIGINALS_PER_BATCH])
            name = f"original-{batch[0].id}-{key_of({'items': [item.id for item in batch]})[:8]}"
            tensors = self.shards.get(name, partial(self._original_tensors, batch))
            yield Originals.stored(batch, tensors)

    def _original_tensors(self, items: Sequence[Item]) -> dict[str, Tensor]:
        return self.generator.originals(items).tensors()


def open_editable(
    results: Results, threads: int | None, plan: Plan | None = None, controlnet: Path | None = None
) -> EditableRun:
    """Open the model, the engine and the labeler of a run, and the ControlNet that a plan needs.

    ``controlnet`` is the folder that was typed; without it the shipped one is taken. Raises
    UserError when this installation would not generate the run's images.
    """
    study, engine = reopened(results, threads)
    shards = Shards(
        results.path / FOLDER / "shards", key_of({"schema": SCHEMA, "run": results.fingerprint})
    )
    steering = None
    if plan and CONTROLNET in plan.methods:
        folder = folder_for(results.config.model, plan.task, controlnet)
        assert folder is not None
        steering = Steering(study, folder, plan.task)
    return EditableRun(results, study, ImageGenerator(study, engine, steering), shards)


def open_probes(
    run: EditableRun, task: str, arms: Sequence[Arm] = (), shifts: int | None = None
) -> EditProbes:
    """Read the run's probes of a task, and read or fit the published ones that the arms need.

    An image's shifts take the permutations of the labels in turn: of few ``shifts`` not all are
    needed.
    """
    ridge = StoredProbes(run.results, task)
    draws = ridge.draws[:shifts]
    sites = list(dict.fromkeys(site for arm in arms for site in arm.fits(draws)))
    published = (
        published_probes(run.results, run.study, run.generator.engine, task, sites)
        if sites
        else PublishedProbes({})
    )
    return EditProbes(ridge, published, run.study.tasks[task].thresholded, draws)


def movable(
    run: EditableRun,
    split: Split,
    count: int,
    shifts: int,
    target: str = "shifted",
    unfiltered: bool = False,
) -> tuple[Originals, list[tuple[Offset, ...]]]:
    """Select the first ``count`` items of a split whose object can be moved, with their shifts.

    Raises UserError when there are fewer than two.
    """
    parts: list[Originals] = []
    offsets: list[tuple[Offset, ...]] = []
    for originals in run.originals(run.items(split)):
        masks = run.study.reader(originals.images).saliency
        drawn = [
            offsets_for(target, mask, item, shifts, unfiltered)
            for mask, item in zip(masks, originals.items, strict=True)
        ]
        rows = [row for row, shifted in enumerate(drawn) if shifted][: count - len(offsets)]
        offsets += [drawn[row] for row in rows]
        parts.append(originals.take(rows))
        if len(offsets) == count:
            break
    if len(offsets) < 2:
        raise UserError(
            f"{run.results.path} has {len(offsets)} {split} items whose object can be moved "
            f"in {shifts} ways; lower --shifts, or make a run of more items"
        )
    return reduce(add, parts), offsets


@dataclass(frozen=True)
class Batch:
    """Trials that are generated together: every shift of a few items, item by item."""

    originals: Originals
    """One row per trial."""
    offsets: tuple[Offset, ...]
    numbers: tuple[int, ...]
    """Of each trial's shift within its item, from 0."""
    reference: Reference


def batches(
    run: EditableRun,
    plan: Plan,
    originals: Originals,
    offsets: Sequence[Sequence[Offset]],
) -> Iterator[Batch]:
    """Cut items and their shifts into the plan's batches."""
    size = plan.items_per_batch
    for start in range(0, len(originals.items), size):
        chosen = range(start, min(start + size, len(originals.items)))
        part = originals.take(chosen)
        labels = run.study.reader(part.images)
        rows = [row - start for row in chosen for _ in offsets[row]]
        shifts = tuple(offset for row in chosen for offset in offsets[row])
        numbers = tuple(number for row in chosen for number in range(len(offsets[row])))
        before, repeated = labels.take(rows), part.take(rows)
        after = aimed(plan.target, before, shifts, repeated.items, run.study.reader.scale)
        reference = Reference(run.study.tasks[plan.task], repeated.images, before, after)
        yield Batch(repeated, shifts, numbers, reference)


def run_arms(
    run: EditableRun,
    probes: EditProbes,
    split: Split,
    count: int,
    plan: Plan,
    arms: Sequence[Arm],
) -> Trials:
    """Generate the trials that are not on disk yet, and return the scores of all."""
    originals, offsets = movable(run, split, count, plan.shifts, plan.target, plan.unfiltered)
    trials = Trials(run.study.tasks[plan.task], split, originals.items, offsets, probes.draws)
    total = len(originals.items) * plan.shifts * len(arms)
    with tqdm(total=total, unit="trial", desc=split, smoothing=0.02) as bar:
        for number, batch in enumerate(batches(run, plan, originals, offsets)):
            items = [item.id for item in batch.originals.items]
            trials.add_null(batch.reference)
            # All arms of a batch come before the next batch, so that an interrupted experiment
            # has the same items for every arm.
            for arm in arms:
                facts: dict[str, object] = {"items": items, "offsets": batch.offsets}
                facts |= run.facts_of(arm)
                if arm.control == PERMUTED:
                    facts["draws"] = probes.draws
                name = f"{plan.name}-{items[0]}-{arm.key}-{key_of(facts)[:8]}"
                show_every = plan.shifts if number == 0 else None
                generate = partial(generate_trials, run, probes, batch, arm, show_every)
                trials.add(arm, run.shards.get(name, generate))
                bar.update(len(items))
    return trials


def generate_trials(
    run: EditableRun, probes: EditProbes, batch: Batch, arm: Arm, show_every: int | None
) -> dict[str, Tensor]:
    """Generate and score a batch's trials.

    The result also holds the 8-bit image and the label of every ``show_every``-th trial.
    """
    started, reference = time.perf_counter(), batch.reference
    target = reference.original_map if arm.control == UNMOVED else reference.target
    images = run.generator.edited(arm, probes, batch.originals, target, batch.numbers)
    labels = run.study.reader(images)
    seconds = time.perf_counter() - started
    tensors = {"scores": batch.reference.scores(images, labels, seconds)}
    if show_every:
        tensors["image"] = (images[::show_every] * 255).round().to(torch.uint8).contiguous()
        target = batch.reference.task.target(labels)
        tensors["label"] = target[::show_every].float().contiguous()
    return tensors


def edit_arm(plan: Plan, method: str, strength: float) -> Arm:
    """Return the arm of an edit in the plan's layers and steps; a ControlNet has no layers."""
    if method == CONTROLNET:
        return Arm(method, EDIT, strength, (), _indices(plan.all_steps))
    return Arm(method, EDIT, strength, plan.layers, _indices(plan.steps))


def edits(plan: Plan) -> list[Arm]:
    """Return every method at every strength, without controls."""
    return [
        edit_arm(plan, method, strength)
        for method in plan.methods
        for strength in plan.strengths_of(method)
    ]


def with_controls(plan: Plan, chosen: Collection[Arm] = ()) -> list[Arm]:
    """Return every edit, followed by the random control and, if it is ``chosen``, all others."""
    late = _indices(plan.late_steps)
    arms = []
    for arm in edits(plan):
        arms.append(arm)
        for control in _controls_of(plan, arm.method):
            if control == RANDOM or arm in chosen:
                steps = late if control == LATE else arm.steps
                arms.append(replace(arm, control=control, steps=steps))
    return arms


def _controls_of(plan: Plan, method: str) -> list[str]:
    """The plan's controls as the method has them."""
    controls = list(plan.controls or ())
    if method != CONTROLNET:
        return controls
    own = dict(zip(CONTROLS, CONTROLNET_CONTROLS, strict=True))
    return [own[control] for control in controls]


def _indices(step_numbers: Sequence[int]) -> tuple[int, ...]:
    return tuple(number - 1 for number in step_numbers)
