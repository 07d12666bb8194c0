"""Move the object along a path: one prompt and seed, one image per position of the object."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import cos, pi, sin

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from scipy.stats import pearsonr
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from bench.errors import UserError
from bench.figures.images import image_grid, image_of, write_gif
from bench.interventions.arms import CONTROLNET, EDIT, RANDOM, Arm, EditProbes
from bench.interventions.config import Plan
from bench.interventions.generator import Originals
from bench.interventions.records import read_summary
from bench.interventions.runner import EditableRun, edit_arm, movable, open_probes
from bench.interventions.shifts import NEAREST, Offset, moved
from engines.cache import key_of
from probes.bootstrap import Array, effect_of
from probes.edit import METHODS
from probes.published_edit import PUBLISHED

METHOD, STRENGTH = "pattern", 8.0
"""Of a run without an experiment, which would choose them."""
_GIF_ITEMS, _TILE, _GAP, _NAMES = 4, 192, 6, 90


@dataclass(frozen=True, slots=True)
class Walk:
    """The frames of one item."""

    images: Float[Tensor, "frames 3 h w"]
    target: Array
    """frames x 2: row and column of the target mask's centre, in pixels."""
    measured: Array
    """The same of the output's mask; nan where it is empty."""

    def correlation(self, axis: int) -> float:
        """Correlate target and measured centres along an axis; nan where it is undefined."""
        finite = np.isfinite(self.measured[:, axis]) & np.isfinite(self.target[:, axis])
        target, measured = self.target[finite, axis], self.measured[finite, axis]
        if len(target) < 2 or np.ptp(target) == 0 or np.ptp(measured) == 0:
            return float("nan")
        return float(pearsonr(target, measured).statistic)


def offsets_along(path: str, frames: int, height: int, width: int) -> list[Offset]:
    """Return the shifts of a path (``circle`` or ``line``) around the object's original place.

    ``height`` and ``width`` are the image's, of which the shorter one sets the radius.
    """
    radius = NEAREST * min(height, width)
    turns = [2 * pi * frame / frames for frame in range(frames)]
    rise = radius if path == "circle" else 0
    return [(round(rise * sin(turn)), round(radius * cos(turn))) for turn in turns]


def centres(masks: Bool[Tensor, "n h w"]) -> Array:
    """Return the mean row and column of each mask, n x 2; nan where it is empty."""
    means = np.full((len(masks), 2), np.nan)
    for index, mask in enumerate(masks.numpy()):
        if mask.any():
            means[index] = np.argwhere(mask).mean(0)
    return means


def chosen_arm(
    run: EditableRun, plan: Plan, methods: Sequence[str] | None, strengths: Sequence[float] | None
) -> Arm:
    """Return the edit of a path or a map: as typed, else the experiment's, else the default.

    The strength that an experiment chose is that of its method alone.
    """
    summary = read_summary(run.results.path, plan.name)
    chosen = summary.chosen if summary else None
    method = methods[0] if methods else chosen.method if chosen else METHOD
    if strengths:
        strength = strengths[0]
    elif chosen and chosen.method == method:
        strength = chosen.strength
    elif method in (PUBLISHED, CONTROLNET):
        strength = plan.strengths_of(method)[-1]
    else:
        strength = STRENGTH
    return edit_arm(plan, method, strength)


def layered_arm(
    run: EditableRun, plan: Plan, methods: Sequence[str] | None, strengths: Sequence[float] | None
) -> Arm:
    """Return :func:`chosen_arm` for maps over layers. Raises UserError for a ControlNet."""
    arm = chosen_arm(run, plan, methods, strengths)
    if arm.method == CONTROLNET:
        raise UserError(
            f"{CONTROLNET} edits no layers that could be told apart; name another of --methods"
        )
    return arm


def arms_of(
    run: EditableRun, plan: Plan, methods: Sequence[str] | None, strengths: Sequence[float] | None
) -> list[Arm]:
    """Return :func:`chosen_arm` of each method.

    Among several, the strength that was typed is that of edits by ridge probes.
    """
    if not methods or len(methods) == 1:
        return [chosen_arm(run, plan, methods, strengths)]
    return [
        chosen_arm(run, plan, [method], strengths if method in METHODS else None)
        for method in dict.fromkeys(methods)
    ]


def walk(
    run: EditableRun,
    probes: EditProbes,
    arm: Arm,
    item: Originals,
    offsets: Sequence[Offset],
    batch: int,
) -> Walk:
    """Generate one item's frames, or read them from disk."""
    task, identity = probes.task, item.items[0].id
    targets = moved(run.study.reader(item.images).take([0] * len(offsets)), offsets)
    maps = run.study.tasks[task].target(targets).double()

    def generate() -> dict[str, Tensor]:
        parts = [
            run.generator.edited(arm, probes, item.take([0] * len(rows)), rows)
            for rows in maps.split(batch)
        ]
        return {"images": torch.cat(parts).contiguous()}

    facts = {"item": identity, "offsets": offsets, **run.facts_of(arm)}
    images = run.shards.get(f"path-{task}-{identity}-{key_of(facts)[:16]}", generate)["images"]
    return Walk(images, centres(targets.saliency), centres(run.study.reader(images).saliency))


def print_path(run: EditableRun, plan: Plan, options: argparse.Namespace) -> None:
    """Move the objects of a few items, print how well they follow each method, and write a GIF."""
    arms = arms_of(run, plan, options.methods, options.strengths)
    probes = open_probes(run, plan.task, arms)
    originals, _ = movable(run, "test", plan.items, 1)
    offsets = offsets_along(options.path, options.frames, *originals.images.shape[-2:])
    walk_of = partial(walk, run, probes, offsets=offsets, batch=plan.batch)
    walks: dict[Arm, list[Walk]] = {
        replace(arm, control=control): [] for arm in arms for control in (EDIT, RANDOM)
    }
    for row in tqdm(range(len(originals.items)), unit="item", desc=options.path):
        for arm, entries in walks.items():
            entries.append(walk_of(arm, originals.take([row])))
    axes = {"x": 1, "y": 0} if options.path == "circle" else {"x": 1}
    for arm in arms:
        controls = {"": walks[arm], ", random direction": walks[replace(arm, control=RANDOM)]}
        _print_correlations(arm, originals, controls, axes)
    if options.gif:
        shown = {arm.method: [entry.images for entry in walks[arm][:_GIF_ITEMS]] for arm in arms}
        print(f"frames: {write_gif(frames_of(shown), options.gif)}")


def _print_correlations(
    arm: Arm,
    originals: Originals,
    walks: Mapping[str, Sequence[Walk]],
    axes: Mapping[str, int],
) -> None:
    """Print a table of one method; ``walks`` are those of the edit and of its control, by name."""
    correlations = {
        f"{axis}{name}": np.array([entry.correlation(index) for entry in entries])
        for name, entries in walks.items()
        for axis, index in axes.items()
    }
    table = [
        [item.id, item.prompt, *(f"{values[row]:.2f}" for values in correlations.values())]
        for row, item in enumerate(originals.items)
    ]
    table.append(["mean", "", *(str(effect_of(values)) for values in correlations.values())])
    print(
        f"{arm.method} at strength {arm.strength:g}: "
        "correlation of target and measured centre over frames"
    )
    print(tabulate(table, headers=["item", "prompt", *correlations], disable_numparse=True))


def frames_of(
    methods: Mapping[str, Sequence[Float[Tensor, "frames 3 h w"]]],
) -> list[Image.Image]:
    """Lay out the frames of some items side by side: a row per method, named if there are more."""
    rows = [
        [(item * 255).round().to(torch.uint8).numpy() for item in items]
        for items in methods.values()
    ]
    names = list(methods) if len(methods) > 1 else []
    edges = (_NAMES if names else 0, 0, 0, 0)
    return [
        image_grid(
            [
                [image_of(item[frame], _TILE, Image.Resampling.LANCZOS) for item in row]
                for row in rows
            ],
            _GAP,
            edges,
            names=names,
        )
        for frame in range(len(rows[0][0]))
    ]
