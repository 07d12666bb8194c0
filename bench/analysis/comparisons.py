"""Comparisons of the trained network's probes with controls and baselines, paired over images.

Layers are chosen by cross-validated loss on training images; test images only score them. The sign
of every difference is such that above zero the trained network's probe is better. Networks that
differ by their seed count by their mean, and their spread widens the interval. After the last step
the decoded image is the labelled image itself, so the labeler on it is not compared there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bench.runs.curves import (
    CLEAN_LATENT,
    LATENT,
    MEAN_TRAINING_LABEL,
    MEAN_TRAINING_MAP,
    PERMUTED_LABELS,
    PERMUTED_WEIGHTS,
    POSITION_ALONE,
)
from bench.runs.results import Results, TaskResults
from bench.steps import early_and_last, number_of
from extract.networks import CLEAN, CONVOLUTION, DECODED, DECODED_LAYERS, INPUT, TRAINED
from probes.bootstrap import Array, Score, paired_difference
from probes.multiple_testing import RATE, over_permuted, q_values
from probes.probe_set import (
    ACTIVATIONS,
    MEAN_MAP,
    PERMUTED,
    POSITION,
    STANDARDISED,
    WITH_POSITION,
    Cell,
)

STEPS = (0, 2, 4)
"""Steps 1, 3 and 5, which the paper reports; the last step is always added."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The trained network's probe against one control or baseline, at one step."""

    task: str
    step: int
    """Counted from 0."""
    control: str
    """The control or baseline."""
    remark: str
    """What is to be known of it, such as that there is one draw of it; may be empty."""
    layer: str
    """The layer of the trained network's probe."""
    baseline_layer: str
    """The layer of the baseline; several, between commas, where its networks differ."""
    score: float
    baseline_score: float
    gain: Score
    """Mean difference over test images; above zero the trained network's probe is better."""
    p: float
    """Two-sided p-value of no gain."""
    q: float
    """The least false discovery rate, over all comparisons, at which this one is significant."""

    @property
    def what(self) -> str:
        """The control or baseline, with the remark."""
        return f"{self.control}{self.remark}"

    @property
    def holds(self) -> bool:
        """Whether there is a gain at a false discovery rate of 5 %."""
        return self.gain.mean > 0 and self.q <= RATE


@dataclass(frozen=True, slots=True)
class Baseline:
    """A kind of cell to compare the trained network's probe with."""

    network: str
    """A network, or the stem of the names of networks that differ by their seed."""
    what: str
    probe: str = ACTIVATIONS
    layer: str | None = None
    """None takes the best layer."""
    against: str | None = None
    """The kind of the trained network's probe; None for that of the baseline's."""
    first: str | None = None
    """The networks that compute the same at the first step, where the latents are the noise."""


BASELINES = (
    Baseline("random", "permuted weights, the trained network's latents"),
    Baseline("own", "permuted weights, their own latents", first="random"),
    Baseline("reinitialised", "re-initialised weights, the trained network's latents"),
    Baseline(
        "own reinitialised", "re-initialised weights, their own latents", first="reinitialised"
    ),
    Baseline("vae", "the autoencoder's decoder"),
    Baseline(CONVOLUTION, "the residual blocks' convolutions"),
    Baseline(DECODED, "the labeler on the decoded image", layer=DECODED_LAYERS[0]),
    Baseline(DECODED, "the labeler on the predicted clean image", layer=DECODED_LAYERS[1]),
    # The prompt is the same at every token: without position it cannot predict a map.
    Baseline("text", "the prompt alone, with position", probe=WITH_POSITION),
    Baseline("unconditional", "the branch without a prompt"),
    Baseline(
        TRAINED, "the same activations, standardised", probe=STANDARDISED, against=ACTIVATIONS
    ),
)


def comparisons(results: Results) -> list[Comparison]:
    """The trained network's probes against every control, at step 5 and at the last step."""
    steps = early_and_last(results.steps)
    return _with_q_values(
        row
        for task in results.tasks.values()
        for step in steps
        for row in _with_controls(results, task, step)
    )


def baseline_comparisons(results: Results) -> list[Comparison]:
    """The trained network's probes against every recorded baseline, at steps 1, 3, 5 and the last.

    Empty for a run without ``--baselines``.
    """
    if not any(
        _is_recorded(results, baseline) for baseline in BASELINES if baseline.network != "random"
    ):
        return []
    steps = [step for step in results.steps if step in STEPS or step == results.steps[-1]]
    return _with_q_values(
        row
        for task in results.tasks.values()
        for baseline in BASELINES
        for step in steps
        if (row := _with_baseline(results, task, baseline, step))
    )


def _is_recorded(results: Results, baseline: Baseline) -> bool:
    """Whether a run has cells of a baseline."""
    return any(
        task.where(network=name, probe=baseline.probe)
        for name in results.family(baseline.network)
        for task in results.tasks.values()
    )


def cell_of(task: TaskResults, baseline: Baseline, network: str, step: int) -> Cell | None:
    """The cell of a baseline in one of its networks at a step; None if it was not recorded."""
    if baseline.layer is None:
        return task.best(network=network, step=step, probe=baseline.probe)
    cells = task.where(network=network, step=step, layer=baseline.layer)
    return cells[0] if cells else None


def is_labelled(results: Results, step: int) -> bool:
    """Whether the image decoded after a step is the image that was labelled."""
    config = results.config
    return config.source == "generated" and number_of(step) == config.sampler_steps


def _with_q_values(rows: Iterable[Comparison]) -> list[Comparison]:
    rows = list(rows)
    q = q_values(np.array([row.p for row in rows]))
    return [replace(row, q=float(value)) for row, value in zip(rows, q, strict=True)]


def _compare(
    task: TaskResults,
    step: int,
    control: str,
    cell: Cell,
    baseline_layer: str,
    baseline: Array,
    remark: str = "",
) -> Comparison:
    """Compare a cell with a baseline's scores: images, or draws x images.

    Draws are permutations of the labels or seeds of a network: their variation widens the interval.
    """
    sign, scores = task.sign(), task.score(cell)
    if len(np.atleast_2d(baseline)) > 1:
        gain = over_permuted(sign * scores[None], sign * baseline[None])
    else:
        gain = paired_difference(sign * scores, sign * baseline.reshape(-1))
    return Comparison(
        task.name,
        step,
        control,
        remark,
        cell.layer,
        baseline_layer,
        float(np.nanmean(scores)),
        float(np.nanmean(baseline)),
        Score(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0])),
        float(gain.p[0]),
        np.nan,
    )


def _with_controls(results: Results, task: TaskResults, step: int) -> Iterator[Comparison]:
    compare = partial(_compare, task, step)
    best = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
    if best is None:
        # Nothing could be fitted.
        return
    random = [
        cell
        for name in results.random_networks
        if (cell := task.best(network=name, step=step, probe=ACTIVATIONS))
    ]
    if random:
        control, remark = f"{PERMUTED_WEIGHTS}, same latents", _if_one_seed(len(random))
        yield compare(control, best, _layers(random), _scores(task, random), remark)
    permuted = task.where(network=TRAINED, step=step, probe=PERMUTED, layer=best.layer)
    if permuted:
        remark = ": this one draw" if len(permuted) == 1 else ""
        yield compare(PERMUTED_LABELS, best, best.layer, _scores(task, permuted), remark)
    for cell in task.where(network=INPUT, step=step, probe=ACTIVATIONS):
        yield compare(LATENT, best, cell.layer, task.score(cell))
    for cell in task.where(network=CLEAN, step=step, probe=ACTIVATIONS):
        yield compare(CLEAN_LATENT, best, cell.layer, task.score(cell))
    both = task.best(network=TRAINED, step=step, probe=WITH_POSITION)
    position = task.best(network=POSITION)
    if both is not None and position is not None:
        yield compare(
            f"with position: {POSITION_ALONE}", both, position.layer, task.score(position)
        )
    control = MEAN_TRAINING_LABEL if both is None else f"with position: {MEAN_TRAINING_MAP}"
    for cell in task.where(network=MEAN_MAP):
        yield compare(control, both or best, cell.layer, task.score(cell))


def _with_baseline(
    results: Results, task: TaskResults, baseline: Baseline, step: int
) -> Comparison | None:
    networks = results.family(baseline.network)
    best = task.best(network=TRAINED, step=step, probe=baseline.against or baseline.probe)
    cells = [cell for name in networks if (cell := cell_of(task, baseline, name, step))]
    if best is None or not cells or (baseline.network == DECODED and is_labelled(results, step)):
        return None
    if step == 0 and baseline.first is not None and results.family(baseline.first):
        # The same comparison a second time.
        return None
    remark = "" if baseline.network in networks else _if_one_seed(len(cells))
    scores = _scores(task, cells)
    return _compare(task, step, baseline.what, best, _layers(cells), scores, remark)


def _if_one_seed(networks: int) -> str:
    """The remark on a single random network, whose variation between seeds is not measured."""
    return ": this one network" if networks == 1 else ""


def _layers(cells: Iterable[Cell]) -> str:
    return ", ".join(dict.fromkeys(cell.layer for cell in cells))


def _scores(task: TaskResults, cells: Iterable[Cell]) -> Array:
    """Scores per cell and image."""
    return np.array([task.score(cell) for cell in cells])
