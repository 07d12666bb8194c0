"""Edit what a scene is: colour, shape, floor, wall and light, and measure all of them.

Probes of whole images read the mean activation m over tokens, so an edit adds one vector to every
token. For the run's ridge probe of the classes (weights W, prediction p) and the indicator t of the
target class, at strength 1

    means      the mean of m over training images of the target class, minus that over images of
               the class that the unedited image has
    weights    (t - p) (W'W)^-1 W', the smallest change after which the probe predicts t
    pattern    (t - p) V' with the pattern V of the covariance of m (``probes/edit.py``)
    random     is the control of each: a random direction of the item and the layer, the same of
               all edits, with the norm that the edit has at strength 1

The target is another class, drawn at random by the item. Every edit and every control has, for each
image, the strength at which it changes the image by a stated amount, a mean absolute difference of
pixels (``equal_change.py``). The matrix of edited x measured attributes holds the share of images
that have the target class (edited attribute), or another class than before (the others: side
effects), and in a last column the share whose edited attribute has another class than before.
Gains over random directions are tested over images, with the false discovery rate of all cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from bench.errors import UserError
from bench.interventions.arms import RANDOM, random_directions
from bench.interventions.attribute_matrix import AttributeArm, Trials, arms_of, matrix, text_of
from bench.interventions.config import Plan
from bench.interventions.equal_change import Matched, Tried, at_change
from bench.interventions.generator import Edit, Originals
from bench.interventions.image_probes import ImageProbes, class_means, classes_of
from bench.interventions.records import (
    ATTRIBUTES,
    AttributeTable,
    task_folder,
    write_record,
)
from bench.interventions.runner import EditableRun
from bench.registry import plugin
from datasets.items import Item
from engines.cache import key_of
from probes.bootstrap import Array
from probes.edit import Probe

_SEED = 7


@dataclass(frozen=True, slots=True)
class Aim:
    """The classes of a batch of images, before and as the edit wants them."""

    items: tuple[Item, ...]
    before: Tensor
    target: Tensor

    def take(self, rows: Sequence[int]) -> Aim:
        """Select rows, in that order."""
        items = tuple(self.items[row] for row in rows)
        return Aim(items, self.before[list(rows)], self.target[list(rows)])


def aim_of(task: str, items: tuple[Item, ...], before: Tensor) -> Aim:
    """Draw another class for every item."""
    count = len(plugin("task", task).classes)
    steps = [
        1 + int(np.random.default_rng([_SEED, item.seed]).integers(count - 1)) for item in items
    ]
    return Aim(items, before, (before + torch.tensor(steps)) % count)


def change_of(
    method: str, mean: Float[Tensor, "n c"], probe: Probe, means: Float[Tensor, "k c"], aim: Aim
) -> Float[Tensor, "n c"]:
    """The change of every token at strength 1."""
    if method == "means":
        return means[aim.target] - means[aim.before]
    wanted = torch.nn.functional.one_hot(aim.target, len(means)).to(mean.dtype)
    residual = wanted - probe.read(mean[:, None])[:, 0]
    change: Tensor = residual @ (
        torch.linalg.pinv(probe.weights) if method == "weights" else probe.pattern.mT
    )
    return change


def edit_at(
    arm: AttributeArm,
    strengths: Float[Tensor, " n"],
    probes: ImageProbes,
    aim: Aim,
    step: int,
) -> Edit:
    """Return the edit of an arm at a step, as :func:`bench.interventions.arms.edit_at` does."""

    def edit(layer: str, x: Tensor) -> Tensor:
        probe, means = probes.get(layer, step), probes.means(layer, step)
        change = change_of(arm.method, x.mean(1), probe, means, aim)
        if arm.control == RANDOM:
            shape = (x.shape[-1], 1)
            turned = torch.stack(
                [random_directions(item, layer, shape)[:, 0] for item in aim.items]
            )
            change = turned * change.norm(dim=-1, keepdim=True)
        return x + (strengths.to(change.dtype)[:, None] * change)[:, None]

    return edit


def _trials(
    run: EditableRun,
    plan: Plan,
    probes: Mapping[str, ImageProbes],
    originals: Originals,
    bar: tqdm[object],
) -> Trials:
    """Run every arm on a batch of images; what was tried of an arm is stored as it is done."""
    labels, tasks = run.study.reader(originals.images), list(probes)
    before = {task: classes_of(task, labels) for task in tasks}
    found = {}
    for arm in arms_of(tasks):
        aim = aim_of(arm.task, originals.items, before[arm.task])
        evaluate = _evaluation(run, plan, arm, probes, originals, aim)
        found[arm] = at_change(evaluate, len(originals.items), plan.damages[-1])
        classes = dict(zip(tasks, torch.from_numpy(found[arm].outcome).T, strict=True))
        outcome = outcomes_of(arm.task, classes, before, aim)
        found[arm] = replace(found[arm], outcome=outcome.numpy())
        bar.update(len(originals.items))
    return found


def outcomes_of(
    task: str, after: Mapping[str, Tensor], before: Mapping[str, Tensor], aim: Aim
) -> Int[Tensor, "n outcomes"]:
    """Return 1 or 0 for every attribute, then for ``CHANGED``.

    It is 1 where the edited attribute has its target class, another attribute has another class
    than before, and under ``CHANGED`` where the edited one has.
    """
    outcomes = [
        after[name] == aim.target if name == task else after[name] != before[name] for name in after
    ]
    return torch.stack([*outcomes, after[task] != before[task]], dim=1).long()


def _evaluation(
    run: EditableRun,
    plan: Plan,
    arm: AttributeArm,
    probes: Mapping[str, ImageProbes],
    originals: Originals,
    aim: Aim,
) -> Callable[[Sequence[int], Array], Tried]:
    """Return the evaluation of an arm on images of a batch: their changes and classes."""
    steps = [number - 1 for number in plan.steps]

    def evaluate(rows: Sequence[int], strengths: Array) -> Tried:
        part, own = originals.take(rows), aim.take(rows)

        def make() -> dict[str, Tensor]:
            edit = partial(edit_at, arm, torch.from_numpy(strengths), probes[arm.task], own)
            images = run.generator.edited_by(plan.layers, steps, part, edit)
            after = run.study.reader(images)
            change = (images - part.images).abs().mean((1, 2, 3)).double()
            classes = torch.stack([classes_of(name, after) for name in probes], dim=1)
            return {"change": change, "classes": classes}

        facts = {
            "items": [item.id for item in part.items],
            "arm": astuple(arm),
            "strengths": strengths.tolist(),
            "where": [plan.layers, plan.steps, list(probes)],
        }
        name = f"attributes-{arm.task}-{arm.method}-{arm.control}-{key_of(facts)[:16]}"
        made = run.shards.get(name, make)
        return made["change"].numpy(), made["classes"].numpy()

    return evaluate


def attributes_table(run: EditableRun, plan: Plan) -> AttributeTable:
    """Run the experiment, or finish an interrupted one."""
    tasks = [name for name in run.results.tasks if plugin("task", name).per_image]
    if not tasks:
        raise UserError(
            f"{run.results.path} has no probes of whole images; make a run with "
            "--tasks colour,shape,floor,wall,light"
        )
    stored = class_means(run, plan, tasks)
    items = run.items("test")[: plan.items]
    probes = {task: ImageProbes(run.results, task, stored) for task in tasks}
    total = len(items) * len(arms_of(tasks))
    with tqdm(total=total, unit="image", desc="attributes", smoothing=0.02) as bar:
        parts = [_trials(run, plan, probes, batch, bar) for batch in run.originals(items)]
    return AttributeTable(
        change=plan.damages[-1],
        layers=plan.layers,
        steps=plan.steps,
        items=len(items),
        entries=matrix(
            {arm: Matched.joined([part[arm] for part in parts]) for arm in arms_of(tasks)},
            tasks,
            plan.damages[-1],
        ),
    )


def print_attributes(run: EditableRun, plan: Plan) -> None:
    """Print one matrix per direction, and store them."""
    table = attributes_table(run, plan)
    print(text_of(table))
    path = task_folder(run.results.path, ATTRIBUTES) / f"{ATTRIBUTES}.json"
    write_record(table, path)
    print(f"figures in {path}")
