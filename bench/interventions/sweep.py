"""Where and when do edits act? One method at one strength, in blocks of layers and windows of steps.

Training items answer: what is chosen by a sweep can still be confirmed on test items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from tabulate import tabulate

from bench.analysis.significance import at_rate
from bench.errors import UserError
from bench.interventions.arms import EDIT, RANDOM, Arm
from bench.interventions.config import Plan
from bench.interventions.path import chosen_arm
from bench.interventions.runner import Bench, run_arms
from bench.interventions.trials import DAMAGE, NO_EDIT, Trials
from bench.runs.probes import StoredProbes
from probes.bootstrap import Difference, Score, paired_difference
from probes.multiple_testing import RATE, q_values

WINDOWS = (range(1, 4), range(1, 6), range(6, 11), range(11, 16))
"""Steps, counted from 1."""


def groups(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The blocks from the middle on, and all of the decoder together."""
    blocks: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        if layer.startswith(("mid", "up")):
            block = layer.partition(".")[0]
            blocks[block] = (*blocks.get(block, ()), layer)
    decoder = tuple(layer for layer in layers if layer.startswith("up"))
    return blocks | ({"decoder": decoder} if decoder else {})


def windows(steps: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The windows' probed steps, counted from 0; a window with none is left out."""
    found = {}
    for window in WINDOWS:
        probed = tuple(step for step in steps if step + 1 in window)
        if probed:
            found[", ".join(str(step + 1) for step in probed)] = probed
    return found


def print_sweep(
    bench: Bench, plan: Plan, methods: Sequence[str] | None, strengths: Sequence[float] | None
) -> None:
    """Run the sweep on a few training items and print its table."""
    probes = StoredProbes(bench.results, plan.task)
    base = chosen_arm(
        bench, plan, methods[0] if methods else None, strengths[0] if strengths else None
    )
    sites = {
        (group, window): replace(base, layers=layers, steps=steps)
        for group, layers in groups(bench.results.layers).items()
        for window, steps in windows(bench.results.steps).items()
    }
    if not sites:
        raise UserError(
            f"{bench.results.path} has no probes of the middle or the decoder to sweep over"
        )
    arms = [replace(arm, control=control) for arm in sites.values() for control in (EDIT, RANDOM)]
    trials = run_arms(bench, probes, "train", plan.items, plan, list(dict.fromkeys(arms)))
    baselines = ("random direction", "no edit")
    gains = [
        [_gain(trials, arm, baseline) for baseline in (replace(arm, control=RANDOM), NO_EDIT)]
        for arm in sites.values()
    ]
    q = q_values(np.array([[gain.p[0] for gain in row] for row in gains]))
    table = []
    for (group, window), arm, row, rates in zip(sites, sites.values(), gains, q, strict=True):
        shown = {"layers": group, "steps": window}
        for name, scored in (
            (trials.headline.replace("_", " "), arm),
            ("random direction", replace(arm, control=RANDOM)),
        ):
            shown[name] = f"{np.nanmean(trials.per_item(scored, trials.headline)):.3f}"
        for name, gain, rate in zip(baselines, row, rates, strict=True):
            shown[f"gain over {name}"] = str(
                Score(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0]))
            )
            shown[f"q over {name}"] = f"{rate:.4f}"
        table.append(shown | {"damage": f"{np.nanmean(trials.per_item(arm, DAMAGE)):.3f}"})
    print(
        f"{plan.task}, {base.method} at strength {base.strength:g}, {len(trials.items)} training items x {plan.shifts}"
    )
    print(tabulate(table, headers="keys", disable_numparse=True))
    held = sum(
        gain.mean[0] > 0 and rate <= RATE for gain, rate in zip(chain(*gains), q.flat, strict=True)
    )
    print(
        f"{held} of {q.size} gains hold {at_rate(int(np.isfinite(q).sum()))}; confirm them on test items"
    )


def _gain(trials: Trials, arm: Arm, baseline: Arm) -> Difference:
    """Paired over items; above zero the first arm is better."""
    sign = trials.task.metrics[0].sign
    ours, theirs = (sign * trials.per_item(one, trials.headline) for one in (arm, baseline))
    return paired_difference(ours, theirs)
