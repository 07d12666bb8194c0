"""The paper's comparisons, as far as a run watched them: the trained network's probes against every other reading.

Differences are paired over test pictures and written so that above zero speaks for the trained network. A family of
networks that differ by their seed counts by its mean. Layers are chosen on training pictures, on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.findings import Comparison, Score, against, curve, score_of
from bench.results import Results, TaskResults
from extract.names import CONVOLUTION, DECODED, DECODED_LAYERS, TRAINED
from probes.bank import ACTIVATIONS, WITH_POSITION, Cell
from probes.bootstrap import LEVEL, resampled_means, resampling_weights
from probes.discovery import q_values

STEPS = (0, 2, 4)
"""Steps 1, 3 and 5, where the paper looks; the last step is always added."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A reading to compare with."""

    network: str
    """A network, or the stem of a family of them."""
    what: str
    probe: str = ACTIVATIONS
    layer: str | None = None
    """None takes the best one."""


RIVALS = (
    Rival("random", "shuffled weights, the trained network's latents"),
    Rival("own", "shuffled weights, their own latents"),
    Rival("reinitialised", "weights as before training, the trained network's latents"),
    Rival("own reinitialised", "weights as before training, their own latents"),
    Rival("vae", "the autoencoder's decoder"),
    Rival(CONVOLUTION, "the residual blocks' convolutions"),
    Rival(DECODED, "the labeler on the decoded picture", layer=DECODED_LAYERS[0]),
    Rival(DECODED, "the labeler on the foreseen picture", layer=DECODED_LAYERS[1]),
    # The prompt is the same at every token: without position it could say nothing of a map.
    Rival("text", "the prompt alone, with position", probe=WITH_POSITION),
    Rival("unconditional", "the branch without a prompt"),
)


def paper_rows(results: Results) -> list[Comparison]:
    """Every comparison that the run watched, at steps 1, 3, 5 and the last; empty if it watched none."""
    if not any(results.family(rival.network) for rival in RIVALS if rival.network != "random"):
        return []
    steps = [step for step in results.steps if step in STEPS or step == results.steps[-1]]
    found = [
        row
        for task in results.tasks.values()
        for rival in RIVALS
        for step in steps
        for row in _row(results, task, rival, step)
    ]
    q = q_values(np.array([row.p for row in found]))
    return [replace(row, q=float(value)) for row, value in zip(found, q, strict=True)]


def _row(results: Results, task: TaskResults, rival: Rival, step: int) -> Iterator[Comparison]:
    ours = task.best(network=TRAINED, step=step, probe=rival.probe)
    theirs = [cell for name in results.family(rival.network) if (cell := _cell(task, rival, name, step))]
    if ours is None or not theirs:
        return
    layers = ", ".join(dict.fromkeys(cell.layer for cell in theirs))
    yield against(task, step, rival.what, ours, layers, np.mean([task.score(cell) for cell in theirs], axis=0))


def _cell(task: TaskResults, rival: Rival, network: str, step: int) -> Cell | None:
    if rival.layer is None:
        return task.best(network=network, step=step, probe=rival.probe)
    found = task.where(network=network, step=step, layer=rival.layer)
    return found[0] if found else None


def catching_up(results: Results, task: TaskResults, layer: str) -> Score | None:
    """The step (counted from 1) from which on the decoded picture says at least what the probe says.

    With its 95 % bootstrap interval; one more than the last step where it never does.
    """
    sign = 1.0 if task.higher_is_better[0] else -1.0
    lead = []
    for step in results.steps:
        shown = task.where(network=DECODED, step=step, layer=layer)
        probed = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        if not shown or probed is None:
            return None
        lead.append(sign * (task.score(shown[0]) - task.score(probed)))
    gains = np.array(lead)
    numbers = [step + 1 for step in results.steps]
    drawn = resampled_means(gains, resampling_weights(gains.shape[1]))
    steps = [_from_which_on(column >= 0, numbers) for column in drawn.T]
    low, high = np.quantile(steps, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Score(float(_from_which_on(np.nanmean(gains, axis=1) >= 0, numbers)), float(low), float(high))


def _from_which_on(holds: Sequence[bool], numbers: Sequence[int]) -> int:
    """The first of ``numbers`` from which on everything holds."""
    fails = [index for index, value in enumerate(holds) if not value]
    if not fails:
        return numbers[0]
    return numbers[fails[-1] + 1] if fails[-1] + 1 < len(numbers) else numbers[-1] + 1


def catching_up_line(results: Results, task: TaskResults) -> str | None:
    """When the picture that is coming out of the noise shows what the probe has read already."""
    parts = []
    for layer, name in zip(DECODED_LAYERS, ("decoded", "foreseen"), strict=True):
        step = catching_up(results, task, layer)
        if step is not None:
            parts.append(f"the {name} picture catches up with the probe {_step(step, results.steps[-1] + 1)}")
    return f"{task.name}: {'; '.join(parts)}" if parts else None


def _step(score: Score, last: int) -> str:
    def shown(step: float) -> str:
        return "never" if step > last else f"{step:.0f}"

    mean = "never" if score.mean > last else f"at step {score.mean:.0f}"
    return f"{mean} [{shown(score.low)}, {shown(score.high)}]"


def curves(results: Results, task: TaskResults) -> list[tuple[str, list[tuple[int, Score]]]]:
    """(name, points) of the trained network and everything it is compared with, for a chart."""
    lines: list[tuple[str, list[tuple[int, Score]]]] = [
        ("activations", [(step + 1, score) for step, _, score in curve(results, task, TRAINED, ACTIVATIONS)])
    ]
    for rival in RIVALS:
        names = results.family(rival.network)
        if names and rival.probe == ACTIVATIONS:
            cells = [(step, _cell(task, rival, names[0], step)) for step in results.steps]
            lines.append((rival.what, [(step + 1, score_of(task.score(cell))) for step, cell in cells if cell]))
    return lines
