"""Move the object along a path: an image sequence from one prompt and one seed, and how well the object follows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import cos, pi, sin
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import pearsonr
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from bench.errors import MistakeError
from bench.figures.images import image_grid, image_of, write_gif
from bench.interventions.arms import EDIT, RANDOM, Arm
from bench.interventions.config import Plan
from bench.interventions.painter import Originals
from bench.interventions.runner import Bench, movable
from bench.interventions.shifts import NEAREST, Offset, moved
from bench.interventions.summary import read_summary
from bench.runs.probes import StoredProbes
from engines.cache import key_of
from probes.bootstrap import score_of

METHOD, STRENGTH = "pattern", 8.0
"""Of a run for which nothing has been chosen yet."""
_GIF_ITEMS, _TILE, _GAP = 4, 192, 6

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Walk:
    """One item's frames."""

    pictures: Float[Tensor, "frames 3 h w"]
    wanted: Array
    """frames x 2: row and column of the centre of the wanted mask, in pixels."""
    measured: Array
    """The same of the output's mask; nan where it is empty."""

    def correlation(self, axis: int) -> float:
        """Between wanted and measured centres along an axis; nan where it is undefined."""
        known = np.isfinite(self.measured[:, axis]) & np.isfinite(self.wanted[:, axis])
        wanted, measured = self.wanted[known, axis], self.measured[known, axis]
        if len(wanted) < 2 or np.ptp(wanted) == 0 or np.ptp(measured) == 0:
            return float("nan")
        return float(pearsonr(wanted, measured).statistic)


def offsets_along(path: str, frames: int, side: int) -> list[Offset]:
    """The shifts of a path around the place where the object is painted by itself."""
    radius = NEAREST * side
    turns = [2 * pi * frame / frames for frame in range(frames)]
    if path == "circle":
        return [(round(radius * sin(turn)), round(radius * cos(turn))) for turn in turns]
    return [(0, round(radius * cos(turn))) for turn in turns]


def centres(masks: Bool[Tensor, "n h w"]) -> Array:
    """n x 2: mean row and column of each mask; nan where it is empty."""
    found = np.full((len(masks), 2), np.nan)
    for index, mask in enumerate(masks.numpy()):
        if mask.any():
            found[index] = np.argwhere(mask).mean(0)
    return found


def chosen_arm(bench: Bench, plan: Plan, method: str | None, strength: float | None) -> Arm:
    """The arm of a path or a sweep: as typed, else as the experiment chose, else by default."""
    found = read_summary(bench.results.path, plan.task)
    known: dict[str, Any] = found["chosen"] if found else {"method": METHOD, "strength": STRENGTH}
    steps = tuple(step - 1 for step in plan.steps)
    return Arm(method or known["method"], EDIT, strength or float(known["strength"]), plan.layers, steps)


def walk(bench: Bench, probes: StoredProbes, arm: Arm, item: Originals, offsets: Sequence[Offset], batch: int) -> Walk:
    """Paint one item's frames, from disk or now."""
    labels = bench.study.reader(item.pictures)
    wanted = moved(labels.take([0] * len(offsets)), offsets)
    target = bench.study.tasks[probes.task.name].target(wanted).double()

    def paint() -> dict[str, Tensor]:
        parts = []
        for start in range(0, len(offsets), batch):
            rows = target[start : start + batch]
            parts.append(bench.painter.edited(arm, probes, item.take([0] * len(rows)), rows))
        return {"pictures": torch.cat(parts).contiguous()}

    facts = {"item": item.items[0].id, "arm": arm.key, "offsets": offsets}
    pictures = bench.shards.get(f"path-{probes.task.name}-{item.items[0].id}-{key_of(facts)[:16]}", paint)["pictures"]
    return Walk(pictures, centres(wanted.saliency), centres(bench.study.reader(pictures).saliency))


def print_path(bench: Bench, plan: Plan, options: argparse.Namespace) -> None:
    """Move the objects of a few items, say how well they followed, and write the frames as a GIF."""
    if options.frames < 3:
        raise MistakeError(f"frames must be at least 3, not {options.frames}")
    probes = StoredProbes(bench.results, plan.task)
    method = options.methods[0] if options.methods else None
    strength = options.strengths[0] if options.strengths else None
    arm = chosen_arm(bench, plan, method, strength)
    originals, _ = movable(bench, "test", plan.items, 1)
    offsets = offsets_along(options.path, options.frames, originals.pictures.shape[-1])
    step = partial(walk, bench, probes, offsets=offsets, batch=plan.batch)
    walks: dict[str, list[Walk]] = {EDIT: [], RANDOM: []}
    for row in tqdm(range(len(originals.items)), unit="item", desc=options.path):
        for control, done in walks.items():
            done.append(step(replace(arm, control=control), originals.take([row])))
    axes = {"x": 1, "y": 0} if options.path == "circle" else {"x": 1}
    found = {
        f"{axis}{'' if control == EDIT else ', random direction'}": np.array([one.correlation(at) for one in done])
        for control, done in walks.items()
        for axis, at in axes.items()
    }
    table = [
        [item.id, item.prompt, *(f"{values[row]:.2f}" for values in found.values())]
        for row, item in enumerate(originals.items)
    ]
    table.append(["mean", "", *(str(score_of(values)) for values in found.values())])
    print(f"{arm.method} at strength {arm.strength:g}: correlation of wanted and measured centre over frames")
    print(tabulate(table, headers=["item", "prompt", *found], disable_numparse=True))
    if options.gif:
        print(f"frames: {write_gif(frames_of([w.pictures for w in walks[EDIT][:_GIF_ITEMS]]), options.gif)}")


def frames_of(items: Sequence[Float[Tensor, "frames 3 h w"]]) -> list[Image.Image]:
    """The frames of some items, side by side."""
    frames = []
    for pictures in zip(*((item * 255).round().to(torch.uint8).numpy() for item in items), strict=True):
        frames.append(image_grid([[image_of(picture, _TILE, Image.Resampling.LANCZOS) for picture in pictures]], _GAP))
    return frames
