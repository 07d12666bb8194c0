"""Where and when do edits act? One method at one strength, in blocks of layers and windows of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tabulate import tabulate

from bench.errors import MistakeError
from bench.interventions.arms import EDIT, RANDOM, StoredProbes
from bench.interventions.edited import Bench, run_arms
from bench.interventions.path import chosen_arm
from bench.interventions.plan import Plan
from bench.interventions.score import DAMAGE
from bench.interventions.trials import NO_EDIT

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


def print_sweep(bench: Bench, plan: Plan, methods: Sequence[str] | None, strengths: Sequence[float] | None) -> None:
    """Run the sweep on a few test items and print its table."""
    probes = StoredProbes(bench.results, plan.task)
    base = chosen_arm(bench, plan, methods[0] if methods else None, strengths[0] if strengths else None)
    places = {
        (group, window): replace(base, layers=layers, steps=steps)
        for group, layers in groups(bench.results.layers).items()
        for window, steps in windows(bench.results.steps).items()
    }
    if not places:
        raise MistakeError(f"{bench.results.path} has no probes of the middle or the decoder to sweep over")
    arms = [replace(arm, control=control) for arm in places.values() for control in (EDIT, RANDOM)]
    trials = run_arms(bench, probes, "test", plan.items, plan, list(dict.fromkeys(arms)))
    table = []
    for (group, window), arm in places.items():
        random = replace(arm, control=RANDOM)
        table.append(
            {
                "layers": group,
                "steps": window,
                trials.headline.replace("_", " "): f"{trials.per_item(arm, trials.headline).mean():.3f}",
                "random direction": f"{trials.per_item(random, trials.headline).mean():.3f}",
                "gain over random": str(trials.gain(arm, random)),
                "gain over no edit": str(trials.gain(arm, NO_EDIT)),
                "damage": f"{trials.per_item(arm, DAMAGE).mean():.3f}",
            }
        )
    print(f"{plan.task}, {base.method} at strength {base.strength:g}, {len(trials.items)} test items x {plan.shifts}")
    print(tabulate(table, headers="keys", disable_numparse=True))
