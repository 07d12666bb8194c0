"""Interventions: move what a run's probes read while images are generated, and see whether the images follow."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.errors import UserError
from bench.interventions.arms import EDIT, LATE, RANDOM, Arm
from bench.interventions.config import Plan
from bench.interventions.generator import ImageGenerator, Originals
from bench.interventions.shifts import Offset, draw_offsets, moved
from bench.interventions.trials import Trials, Wanted
from bench.runs.probes import StoredProbes
from bench.runs.reopen import reopened
from bench.runs.results import Results
from bench.study import Study
from datasets.items import Item, Split
from engines.cache import key_of
from extract.shards import Shards

SCHEMA = 1
"""Raised whenever stored trials of an older code would no longer be right."""
FOLDER = "interventions"
_PAINTED_TOGETHER = 8


@dataclass(frozen=True)
class Bench:
    """A run whose images can be generated again with edits."""

    results: Results
    study: Study
    generator: ImageGenerator
    shards: Shards

    @property
    def folder(self) -> Path:
        """Where everything about interventions lies."""
        return self.results.path / FOLDER

    def items(self, split: Split) -> list[Item]:
        """The run's items of one split."""
        blocks = self.study.test if split == "test" else self.study.train
        return [item for block in blocks for item in block.items]

    def _generated(self, items: Sequence[Item]) -> dict[str, Tensor]:
        return self.generator.originals(items).tensors()

    def originals(self, items: Sequence[Item]) -> Iterator[Originals]:
        """The unedited images of items, a few at a time, from disk or generated now."""
        for start in range(0, len(items), _PAINTED_TOGETHER):
            some = tuple(items[start : start + _PAINTED_TOGETHER])
            name = f"original-{some[0].id}-{key_of({'items': [item.id for item in some]})[:8]}"
            tensors = self.shards.get(name, partial(self._generated, some))
            yield Originals(some, **tensors)


def open_bench(results: Results, threads: int | None) -> Bench:
    """Open the model, the engine and the labeler of a run.

    Raises UserError when this installation would not generate the run's images.
    """
    study, engine = reopened(results, threads)
    shards = Shards(
        results.path / FOLDER / "shards", key_of({"schema": SCHEMA, "run": results.fingerprint})
    )
    return Bench(results, study, ImageGenerator(study, engine), shards)


@dataclass(frozen=True)
class Batch:
    """Trials that are generated together: every shift of a few items, item by item."""

    originals: Originals
    """One row per trial."""
    offsets: tuple[Offset, ...]
    wanted: Wanted


def movable(
    bench: Bench, split: Split, count: int, shifts: int
) -> tuple[Originals, list[tuple[Offset, ...]]]:
    """The first ``count`` items of a split whose object has room to move, with their shifts.

    Raises UserError when there are fewer than two.
    """
    parts: list[Originals] = []
    offsets: list[tuple[Offset, ...]] = []
    for originals in bench.originals(bench.items(split)):
        masks = bench.study.reader(originals.images).saliency
        drawn = [
            draw_offsets(mask, item.seed, shifts)
            for mask, item in zip(masks, originals.items, strict=True)
        ]
        rows = [row for row, found in enumerate(drawn) if found][: count - len(offsets)]
        offsets += [drawn[row] for row in rows]
        parts.append(originals.take(rows))
        if len(offsets) == count:
            break
    if len(offsets) < 2:
        raise UserError(
            f"{bench.results.path} has {len(offsets)} {split} items whose object can be moved in {shifts} ways; "
            "lower --shifts, or make a run of more items"
        )
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole, offsets


def batches(
    bench: Bench,
    probes: StoredProbes,
    originals: Originals,
    offsets: Sequence[Sequence[Offset]],
    size: int,
) -> Iterator[Batch]:
    """Cut items and their shifts into batches of ``size`` items."""
    task = bench.study.tasks[probes.task.name]
    for start in range(0, len(originals.items), size):
        chosen = range(start, min(start + size, len(originals.items)))
        part = originals.take(list(chosen))
        labels = bench.study.reader(part.images)
        rows = [row - start for row in chosen for _ in offsets[row]]
        moves = tuple(offset for row in chosen for offset in offsets[row])
        original = labels.take(rows)
        repeated = part.take(rows)
        yield Batch(
            repeated, moves, Wanted(task, repeated.images, original, moved(original, moves))
        )


def run_arms(
    bench: Bench, probes: StoredProbes, split: Split, count: int, plan: Plan, arms: Sequence[Arm]
) -> Trials:
    """Generate every trial of every arm that is not on disk yet, and give all scores."""
    originals, offsets = movable(bench, split, count, plan.shifts)
    trials = Trials(bench.study.tasks[plan.task], split, originals.items, offsets)
    size = plan.items_per_batch
    with tqdm(
        total=len(originals.items) * plan.shifts * len(arms),
        unit="trial",
        desc=split,
        smoothing=0.02,
    ) as bar:
        for number, batch in enumerate(batches(bench, probes, originals, offsets, size)):
            items = [item.id for item in batch.originals.items]
            trials.add_null(batch.wanted)
            # All arms of a batch before the next batch: whenever one looks, every arm has seen the same items.
            for arm in arms:
                facts = {"items": items, "offsets": batch.offsets, "arm": arm.key}
                name = f"{plan.task}-{items[0]}-{arm.key}-{key_of(facts)[:8]}"
                make = partial(
                    generate_trials, bench, probes, batch, arm, plan.shifts if number == 0 else None
                )
                trials.add(arm, bench.shards.get(name, make))
                bar.update(len(items))
    return trials


def generate_trials(
    bench: Bench, probes: StoredProbes, batch: Batch, arm: Arm, show_every: int | None
) -> dict[str, Tensor]:
    """Scores of a batch's trials; with ``show_every`` also image and label of the first of so many trials."""
    started = time.perf_counter()
    images = bench.generator.edited(arm, probes, batch.originals, batch.wanted.target)
    labels = bench.study.reader(images)
    seconds = time.perf_counter() - started
    tensors = {"scores": batch.wanted.scores(images, labels, seconds)}
    if show_every:
        tensors["image"] = (images[::show_every] * 255).round().to(torch.uint8).contiguous()
        tensors["label"] = batch.wanted.task.target(labels)[::show_every].float().contiguous()
    return tensors


def edits(plan: Plan) -> list[Arm]:
    """The interventions proper: every method at every strength."""
    steps = tuple(step - 1 for step in plan.steps)
    return [
        Arm(method, EDIT, strength, plan.layers, steps)
        for strength in plan.strengths
        for method in plan.methods
    ]


def with_controls(plan: Plan, chosen: Collection[Arm] = ()) -> list[Arm]:
    """Every intervention followed by its controls: a random direction, and of the chosen ones all others too."""
    late = tuple(step - 1 for step in plan.late_steps)
    arms = []
    for arm in edits(plan):
        arms.append(arm)
        for control in plan.controls or ():
            if control != RANDOM and arm not in chosen:
                continue
            arms.append(replace(arm, control=control, steps=late if control == LATE else arm.steps))
    return arms
