"""Edit what a scene is: colour, shape, floor, wall and light, and measure all of them.

Probes of whole images read the mean activation m over tokens, so an edit adds one vector to every
token. For the run's ridge probe of the classes (weights W, prediction p) and the indicator t of the
target class, at strength 1

    means      the mean of m over training images of the target class, minus that over images of
               the class that the unedited image has
    weights    (t - p) (W'W)^-1 W', the smallest change after which the probe predicts t
    pattern    (t - p) V' with the pattern V of the covariance of m (``probes/edit.py``)
    random     is the control of each: a random direction of the item, with the norm of the edit

The target is another class, drawn at random by the item. The matrix of edited x measured attributes
holds the share of images that have the target class (edited attribute), or another class than
before (the others: side effects). All are read where the change of the image, a mean absolute
difference of pixels, reaches a stated value, as in ``curves.py``. Gains over random directions are
tested over images, with the false discovery rate of all cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from bench.analysis.significance import at_rate
from bench.errors import UserError
from bench.interventions.arms import EDIT, RANDOM, random_directions
from bench.interventions.config import Plan
from bench.interventions.curves import curve_values
from bench.interventions.generator import Edit, Originals
from bench.interventions.image_probes import ImageProbes, class_means, classes_of
from bench.interventions.records import (
    ATTRIBUTES,
    AttributeRecord,
    AttributeTable,
    task_folder,
    write_record,
)
from bench.interventions.runner import EditableRun
from bench.registry import plugin
from datasets.items import Item
from engines.cache import key_of
from probes.bootstrap import Array, paired_difference, score_of
from probes.edit import Probe
from probes.multiple_testing import RATE, q_values

METHODS = ("means", "weights", "pattern")
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
_SEED = 7


@dataclass(frozen=True, slots=True)
class Aim:
    """The classes of a batch of images, before and as the edit wants them."""

    items: tuple[Item, ...]
    before: Tensor
    target: Tensor


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
    method: str, control: str, strength: float, probes: ImageProbes, aim: Aim, step: int
) -> Edit:
    """Return the edit of an arm at a step, as :func:`bench.interventions.arms.edit_at` does."""

    def edit(layer: str, x: Tensor) -> Tensor:
        probe, means = probes.get(layer, step), probes.means(layer, step)
        change = change_of(method, x.mean(1), probe, means, aim)
        if control == RANDOM:
            shape = (x.shape[-1], 1)
            turned = torch.stack(
                [random_directions(item, layer, shape)[:, 0] for item in aim.items]
            )
            change = turned * change.norm(dim=-1, keepdim=True)
        return x + strength * change[:, None]

    return edit


def _trials(
    run: EditableRun,
    plan: Plan,
    probes: Mapping[str, ImageProbes],
    originals: Originals,
    strengths: Sequence[float],
) -> dict[tuple[str, str, str], tuple[Array, Array]]:
    """(edited, method, control) -> changes, items x strengths, and outcomes, items x strengths x
    tasks; a batch of items is one trial per arm, stored as it is done.
    """
    labels, tasks = run.study.reader(originals.images), list(probes)
    before = {task: classes_of(task, labels) for task in tasks}
    steps = [number - 1 for number in plan.steps]
    arms = list(product(tasks, METHODS, (EDIT, RANDOM), strengths))
    found: dict[tuple[str, str, str], list[tuple[Array, Array]]] = {}
    for task, method, control, strength in tqdm(arms, unit="arm", desc="attributes"):
        aim = aim_of(task, originals.items, before[task])

        def make() -> dict[str, Tensor]:
            edit = partial(edit_at, method, control, strength, probes[task], aim)  # noqa: B023
            images = run.generator.edited_by(plan.layers, steps, originals, edit)
            after = run.study.reader(images)
            change = (images - originals.images).abs().mean((1, 2, 3)).double()
            classes = torch.stack([classes_of(name, after) for name in tasks], dim=1)
            return {"change": change, "classes": classes}

        facts = {
            "items": [item.id for item in originals.items],
            "arm": [task, method, control, strength],
            "where": [plan.layers, plan.steps, tasks],
        }
        made = run.shards.get(f"attributes-{task}-{method}-{key_of(facts)[:16]}", make)
        changed = torch.stack(
            [
                made["classes"][:, index] == aim.target
                if name == task
                else made["classes"][:, index] != before[name]
                for index, name in enumerate(tasks)
            ],
            dim=1,
        )
        found.setdefault((task, method, control), []).append(
            (made["change"].numpy(), changed.double().numpy())
        )
    return {
        arm: (np.stack([x for x, _ in parts], 1), np.stack([y for _, y in parts], 1))
        for arm, parts in found.items()
    }


def attributes_table(run: EditableRun, plan: Plan, strengths: Sequence[float]) -> AttributeTable:
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
    parts = [_trials(run, plan, probes, originals, strengths) for originals in run.originals(items)]
    joined = {
        arm: tuple(np.concatenate([part[arm][index] for part in parts]) for index in (0, 1))
        for arm in parts[0]
    }
    return AttributeTable(
        change=plan.damages[-1],
        strengths=tuple(strengths),
        layers=plan.layers,
        steps=plan.steps,
        items=len(items),
        entries=matrix(joined, tasks, plan.damages[-1]),
    )


def matrix(
    trials: Mapping[tuple[str, str, str], tuple[Array, ...]], tasks: Sequence[str], limit: float
) -> tuple[AttributeRecord, ...]:
    """Compare every edit with its random directions at a change of the image of ``limit``.

    ``trials`` are as :func:`_trials` returns them. The rate of false discoveries is over all cells
    of all methods.
    """
    cells = [(*arm, index) for arm in product(tasks, METHODS) for index in range(len(tasks))]
    edits, randoms = (
        np.stack(
            [_read(trials[task, method, control], index, limit) for task, method, index in cells]
        )
        for control in (EDIT, RANDOM)
    )
    gains = paired_difference(edits, randoms)
    q = q_values(gains.p)
    found = (gains.mean > 0) & (q <= RATE)
    hits = {
        cell[:2]
        for cell, hit in zip(cells, found, strict=True)
        if hit and tasks[cell[2]] == cell[0]
    }
    entries = []
    for row, (task, method, index) in enumerate(cells):
        counts = np.isfinite(edits[row] - randoms[row])
        changes = [trials[task, method, control][0][counts].max(1) for control in (EDIT, RANDOM)]
        reached, random_reached = (_share(change > limit) for change in changes)
        entries.append(
            AttributeRecord(
                edited=task,
                measured=tasks[index],
                method=method,
                share=astuple(score_of(edits[row])),
                random=astuple(score_of(randoms[row])),
                gain=(float(gains.mean[row]), float(gains.low[row]), float(gains.high[row])),
                n=int(counts.sum()),
                p=float(gains.p[row]),
                q=float(q[row]),
                reached=reached,
                random_reached=random_reached,
                hit=(task, method) in hits,
            )
        )
    return tuple(entries)


def _read(trials: tuple[Array, ...], measured: int, limit: float) -> Array:
    """The outcome of every item at a change of ``limit``."""
    change, outcome = trials
    return curve_values(change, outcome[..., measured], np.array([limit]))[:, 0]


def _share(which: NDArray[np.bool_]) -> float:
    return float(which.mean()) if len(which) else float("nan")


def print_attributes(run: EditableRun, plan: Plan, strengths: Sequence[float] | None) -> None:
    """Print one matrix per direction, and store them."""
    table = attributes_table(run, plan, sorted(set(strengths or STRENGTHS)))
    print(text_of(table))
    path = task_folder(run.results.path, ATTRIBUTES) / f"{ATTRIBUTES}.json"
    write_record(table, path)
    print(f"figures in {path}")


def text_of(table: AttributeTable) -> str:
    """One matrix per direction: edited attributes in rows, measured ones in columns."""
    measured = list(dict.fromkeys(entry.measured for entry in table.entries))
    parts = [
        f"edits of {', '.join(table.layers)} at steps {', '.join(map(str, table.steps))}, "
        f"{table.items} test items, read at a change of the image of {table.change:g}"
    ]
    for method in METHODS:
        rows = []
        for edited in measured:
            cells = [x for x in table.entries if (x.method, x.edited) == (method, edited)]
            first = cells[0]
            rows.append(
                [
                    *(edited, f"{first.n}", f"{first.reached:.0%}", "yes" if first.hit else "no"),
                    *map(_cell, cells),
                ]
            )
        headers = ["edited", "n", "reached", "target", *measured]
        parts.append(f"\n{method}\n{tabulate(rows, headers=headers, disable_numparse=True)}")
    defined = sum(np.isfinite(entry.q) for entry in table.entries)
    parts.append(
        "edited attribute: share of images with the target class; others: share whose class "
        "changed. In brackets the gain over a random direction of the same norm, paired, 95 % "
        f"(none where all images have the same gain), and q {at_rate(defined)}\n"
        "n: images that count; reached: share of them whose change reaches the stated one, others "
        "are read at the largest strength; target: whether the edited attribute gains its target "
        f"class, with q of at most {RATE:g}"
    )
    return "\n".join(parts)


def _cell(entry: AttributeRecord) -> str:
    mean, low, high = entry.gain
    # Equal gains of all images show no spread: they have no interval.
    interval = f" [{low:+.2f}, {high:+.2f}]" if low < high else ""
    return f"{entry.share[0]:.2f} ({mean:+.2f}{interval}, q {entry.q:.3f})"
