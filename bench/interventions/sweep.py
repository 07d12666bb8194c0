"""Sweep one edit over blocks of layers and windows of steps: where and when does it act?

The sweep runs on training items, so that its choice can be confirmed on test items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from tabulate import tabulate

from bench.analysis.significance import at_rate
from bench.errors import UserError
from bench.interventions.arms import EDIT, RANDOM
from bench.interventions.config import Plan
from bench.interventions.path import layered_arm
from bench.interventions.records import DAMAGE
from bench.interventions.runner import EditableRun, open_probes, run_arms
from bench.interventions.trials import NO_EDIT
from extract.taps import decoding_layers, fits, layers_by_block
from probes.bootstrap import Score, paired_difference
from probes.multiple_testing import RATE, q_values

WINDOWS = ((0, 1 / 5), (0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1))
"""Begin and end of each window of steps, as shares of the sampler's steps."""


def groups(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group layers by block, from the middle on; the decoder as a whole comes last."""
    decoder = decoding_layers(layers)
    kept = [layer for layer in layers if layer in decoder or fits(layer, "mid")]
    return layers_by_block(kept) | ({"decoder": decoder} if decoder else {})


def windows(steps: Sequence[int], sampler_steps: int) -> list[tuple[int, ...]]:
    """Return the probed steps (0 to T-1) of each window; windows without any are left out."""
    ranges = [range(*(round(end * sampler_steps) for end in window)) for window in WINDOWS]
    probed = (tuple(step for step in steps if step in window) for window in ranges)
    return [window for window in dict.fromkeys(probed) if window]


def print_sweep(
    run: EditableRun, plan: Plan, methods: Sequence[str] | None, strengths: Sequence[float] | None
) -> None:
    """Run the sweep on a few training items and print its table."""
    base = layered_arm(run, plan, methods, strengths)
    edits = {
        (group, window): replace(base, layers=layers, steps=window)
        for group, layers in groups(run.results.layers).items()
        for window in windows(run.results.steps, run.results.config.sampler_steps)
    }
    if not edits:
        raise UserError(
            f"{run.results.path} has no probes of the middle or the decoder to sweep over"
        )
    arms = [replace(arm, control=control) for arm in edits.values() for control in (EDIT, RANDOM)]
    probes = open_probes(run, plan.task, arms)
    trials = run_arms(run, probes, "train", plan.items, plan, list(dict.fromkeys(arms)))
    baselines = ("random direction", "no edit")
    gains = [
        [
            paired_difference(trials.quality(arm), trials.quality(baseline))
            for baseline in (replace(arm, control=RANDOM), NO_EDIT)
        ]
        for arm in edits.values()
    ]
    q = q_values(np.array([[gain.p[0] for gain in row] for row in gains]))
    table = []
    for ((group, _), arm), row, rates in zip(edits.items(), gains, q, strict=True):
        line = {"layers": group, "steps": ", ".join(map(str, arm.step_numbers))}
        for name, scored in (
            (trials.headline.replace("_", " "), arm),
            ("random direction", replace(arm, control=RANDOM)),
        ):
            line[name] = f"{np.nanmean(trials.per_item(scored, trials.headline)):.3f}"
        for name, gain, rate in zip(baselines, row, rates, strict=True):
            mean, low, high = (float(part[0]) for part in (gain.mean, gain.low, gain.high))
            line[f"gain over {name}"] = str(Score(mean, low, high))
            line[f"q over {name}"] = f"{rate:.4f}"
        table.append(line | {"damage": f"{np.nanmean(trials.per_item(arm, DAMAGE)):.3f}"})
    print(
        f"{plan.task}, {base.method} at strength {base.strength:g}, "
        f"{len(trials.items)} training items x {plan.shifts}"
    )
    print(tabulate(table, headers="keys", disable_numparse=True))
    held = sum(
        gain.mean[0] > 0 and rate <= RATE for gain, rate in zip(chain(*gains), q.flat, strict=True)
    )
    print(
        f"{held} of {q.size} gains hold {at_rate(int(np.isfinite(q).sum()))}; "
        "confirm them on test items"
    )
