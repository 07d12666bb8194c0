"""The comparisons that a claim needs, each paired over images: with the controls, and with what else was watched.

Layers are chosen by cross-validated loss on training images; test images only score them. A difference is always
written so that above zero means the first is better. Of networks that differ by their seed the mean counts, and their
spread widens the interval. After the last step a generated image is the very one that was labelled: there the labeler
on the decoded image says what it said, and is no rival.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bench.runs.results import Results, TaskResults
from bench.steps import EARLY_STEP
from extract.networks import CONVOLUTION, DECODED, DECODED_LAYERS, INPUT, TRAINED
from probes.bootstrap import Array, Score, paired_difference
from probes.multiple_testing import RATE, over_permuted, q_values
from probes.probe_set import ACTIVATIONS, MEAN_MAP, PERMUTED, POSITION, WITH_POSITION, Cell

STEPS = (0, 2, 4)
"""Steps 1, 3 and 5, where the paper looks; the last step is always added."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The trained model's probe against one rival, at one step."""

    task: str
    step: int
    what: str
    ours: str
    theirs: str
    our_score: float
    their_score: float
    gain: Score
    p: float
    """Two-sided, of no gain."""
    q: float
    """The false discovery rate, over all comparisons of the run, at which this one is called."""

    @property
    def holds(self) -> bool:
        """Whether there is a gain at a false discovery rate of 5 %."""
        return self.gain.mean > 0 and self.q <= RATE


def comparisons(results: Results) -> list[Comparison]:
    """Trained activations against every control, at step 5 and at the last step."""
    steps = dict.fromkeys(step for step in (EARLY_STEP, results.steps[-1]) if step in results.steps)
    found = [
        entry
        for task in results.tasks.values()
        for step in steps
        for entry in _at_step(results, task, step)
    ]
    q = q_values(np.array([entry.p for entry in found]))
    return [replace(entry, q=float(value)) for entry, value in zip(found, q, strict=True)]


def against(
    task: TaskResults, step: int, what: str, ours: Cell, theirs: str, baseline: Array
) -> Comparison:
    """A cell against a rival's scores per image, which have one row, or one per draw of what is drawn by chance.

    Draws are permutations of the labels or seeds of a network: the cell must stand out among them too.
    """
    sign = task.sign()
    mine = task.score(ours)
    if len(np.atleast_2d(baseline)) > 1:
        gain = over_permuted(sign * mine[None], sign * baseline[None])
    else:
        gain = paired_difference(sign * mine, sign * baseline.reshape(-1))
    score = Score(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0]))
    means = float(np.nanmean(mine)), float(np.nanmean(baseline))
    return Comparison(
        task.name, step, what, ours.layer, theirs, *means, score, float(gain.p[0]), np.nan
    )


def _at_step(results: Results, task: TaskResults, step: int) -> Iterator[Comparison]:
    entry = partial(against, task, step)
    ours = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
    assert ours is not None
    random = [
        task.best(network=name, step=step, probe=ACTIVATIONS) for name in results.random_networks
    ]
    if random:
        baseline = np.array([task.score(cell) for cell in random if cell])
        layers = ", ".join(dict.fromkeys(cell.layer for cell in random if cell))
        yield entry(
            f"random weights, same latents{of_seeds(len(baseline))}", ours, layers, baseline
        )
    permuted = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=ours.layer)
    if permuted:
        what = f"permuted labels{': this one draw' if len(permuted) == 1 else ''}"
        yield entry(what, ours, ours.layer, np.array([task.score(cell) for cell in permuted]))
    for cell in task.where(network=INPUT, step=step, probe=ACTIVATIONS):
        yield entry("the latent itself", ours, cell.layer, task.score(cell))
    both, position = (
        task.best(network=TRAINED, step=step, probe=WITH_POSITION),
        task.best(network=POSITION),
    )
    if both is not None and position is not None:
        yield entry("with position: position alone", both, position.layer, task.score(position))
    what = "with position: mean training map" if both is not None else "mean training label"
    for cell in task.where(network=MEAN_MAP):
        yield entry(what, both or ours, cell.layer, task.score(cell))


def of_seeds(networks: int) -> str:
    """What a comparison with networks of random weights must add where their spread is not known."""
    return ": this one network" if networks == 1 else ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A reading to compare with."""

    network: str
    """A network, or the stem of a family of them."""
    what: str
    probe: str = ACTIVATIONS
    layer: str | None = None
    """None takes the best one."""


RIVALS = (
    Baseline("random", "permuted weights, the trained network's latents"),
    Baseline("own", "permuted weights, their own latents"),
    Baseline("reinitialised", "weights as before training, the trained network's latents"),
    Baseline("own reinitialised", "weights as before training, their own latents"),
    Baseline("vae", "the autoencoder's decoder"),
    Baseline(CONVOLUTION, "the residual blocks' convolutions"),
    Baseline(DECODED, "the labeler on the decoded image", layer=DECODED_LAYERS[0]),
    Baseline(DECODED, "the labeler on the predicted clean image", layer=DECODED_LAYERS[1]),
    # The prompt is the same at every token: without position it could say nothing of a map.
    Baseline("text", "the prompt alone, with position", probe=WITH_POSITION),
    Baseline("unconditional", "the branch without a prompt"),
)


def paper_rows(results: Results) -> list[Comparison]:
    """Every comparison that the run watched, at steps 1, 3, 5 and the last; empty if it watched none."""
    if not any(
        results.family(baseline.network) for baseline in RIVALS if baseline.network != "random"
    ):
        return []
    steps = [step for step in results.steps if step in STEPS or step == results.steps[-1]]
    found = [
        row
        for task in results.tasks.values()
        for baseline in RIVALS
        for step in steps
        for row in _row(results, task, baseline, step)
    ]
    q = q_values(np.array([row.p for row in found]))
    return [replace(row, q=float(value)) for row, value in zip(found, q, strict=True)]


def _row(
    results: Results, task: TaskResults, baseline: Baseline, step: int
) -> Iterator[Comparison]:
    networks = results.family(baseline.network)
    ours = task.best(network=TRAINED, step=step, probe=baseline.probe)
    theirs = [cell for name in networks if (cell := cell_of(task, baseline, name, step))]
    if ours is None or not theirs or (baseline.network == DECODED and is_labelled(results, step)):
        return
    layers = ", ".join(dict.fromkeys(cell.layer for cell in theirs))
    seeds = "" if baseline.network in networks else of_seeds(len(theirs))
    yield against(
        task,
        step,
        f"{baseline.what}{seeds}",
        ours,
        layers,
        np.array([task.score(cell) for cell in theirs]),
    )


def is_labelled(results: Results, step: int) -> bool:
    """Whether what the network has generated after a step is the image that was labelled."""
    config = results.config
    return config.source == "generated" and step + 1 == config.sampler_steps


def cell_of(task: TaskResults, baseline: Baseline, network: str, step: int) -> Cell | None:
    """The cell that a rival has in one of its networks at a step, if it was watched there."""
    if baseline.layer is None:
        return task.best(network=network, step=step, probe=baseline.probe)
    found = task.where(network=network, step=step, layer=baseline.layer)
    return found[0] if found else None
