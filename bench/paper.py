"""The paper's comparisons, as far as a run watched them: the trained network's probes against every other reading.

Differences are paired over test pictures and written so that above zero speaks for the trained network. Of networks
that differ by their seed the mean counts, and their spread widens the interval. Layers are chosen on training pictures,
on both sides. After the last step a painted picture is the very one that was labelled: there the labeler on the decoded
picture says what it said, and is no rival.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bench.analysis.comparisons import Comparison, Score, against, curve, of_seeds, onset, onset_words, score_of
from bench.runs.results import Results, TaskResults
from extract.networks import CONVOLUTION, DECODED, DECODED_LAYERS, TRAINED
from probes.bootstrap import resampled_means, resampling_weights
from probes.multiple_testing import q_values
from probes.probe_set import ACTIVATIONS, WITH_POSITION, Cell

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


@dataclass(frozen=True, slots=True)
class Onset:
    """A probed step from which on something holds."""

    step: Score
    """Counted from 1, with its 95 % interval; more than all of ``numbers`` stands for never."""
    numbers: tuple[int, ...]
    """The steps that were looked at, counted from 1."""


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
    networks = results.family(rival.network)
    ours = task.best(network=TRAINED, step=step, probe=rival.probe)
    theirs = [cell for name in networks if (cell := _cell(task, rival, name, step))]
    if ours is None or not theirs or (rival.network == DECODED and _is_labelled(results, step)):
        return
    layers = ", ".join(dict.fromkeys(cell.layer for cell in theirs))
    seeds = "" if rival.network in networks else of_seeds(len(theirs))
    yield against(task, step, f"{rival.what}{seeds}", ours, layers, np.array([task.score(cell) for cell in theirs]))


def _is_labelled(results: Results, step: int) -> bool:
    """Whether what the network has painted after a step is the picture that was labelled."""
    options = results.options
    return bool(options["source"] == "generated" and step + 1 == options["sampler_steps"])


def _cell(task: TaskResults, rival: Rival, network: str, step: int) -> Cell | None:
    if rival.layer is None:
        return task.best(network=network, step=step, probe=rival.probe)
    found = task.where(network=network, step=step, layer=rival.layer)
    return found[0] if found else None


def catching_up(results: Results, task: TaskResults, layer: str) -> Onset | None:
    """From which step on the decoded picture says at least what the probe says; None where it was not watched.

    Never, where it does so at none of the steps whose picture is not the labelled one.
    """
    sign = 1.0 if task.higher_is_better[0] else -1.0
    steps = [step for step in results.steps if not _is_labelled(results, step)]
    lead = []
    for step in steps:
        shown = task.where(network=DECODED, step=step, layer=layer)
        probed = task.best(network=TRAINED, step=step, probe=ACTIVATIONS)
        if not shown or probed is None:
            return None
        lead.append(sign * (task.score(shown[0]) - task.score(probed)))
    if not lead:
        return None
    gains, numbers = np.array(lead), [step + 1 for step in steps]
    drawn = resampled_means(gains, resampling_weights(gains.shape[1]))
    return Onset(onset(np.nanmean(gains, axis=1) >= 0, drawn >= 0, numbers), tuple(numbers))


def catching_up_line(results: Results, task: str, found: Mapping[str, Onset]) -> str:
    """When the picture that is coming out of the noise shows what the probe has read already."""
    names = dict(zip(DECODED_LAYERS, ("decoded", "foreseen"), strict=True))
    parts = [
        f"the {names[layer]} picture catches up with the probe {_when(results, step)}" for layer, step in found.items()
    ]
    return f"{task}: {'; '.join(parts)}"


def _when(results: Results, found: Onset) -> str:
    words, opening, span = onset_words(found.step, found.numbers).partition(" [")
    if _is_labelled(results, results.steps[-1]):
        # After that step it does by definition.
        words, span = words.replace("never", "not before the last step"), span.replace("never", "last")
    return f"{'at ' if words.startswith('step') else ''}{words}{opening}{span}"


def curves(results: Results, task: TaskResults) -> list[tuple[str, list[tuple[int, Score]]]]:
    """(name, points) of the trained network and everything it is compared with, for a chart; seeds are averaged."""
    lines: list[tuple[str, list[tuple[int, Score]]]] = [
        ("activations", [(step + 1, score) for step, _, score in curve(results, task, TRAINED, ACTIVATIONS)])
    ]
    for rival in RIVALS:
        names = results.family(rival.network)
        if names and rival.probe == ACTIVATIONS:
            cells = [[cell for name in names if (cell := _cell(task, rival, name, step))] for step in results.steps]
            means = [np.mean([task.score(cell) for cell in found], axis=0) for found in cells if found]
            probed = [step + 1 for step, found in zip(results.steps, cells, strict=True) if found]
            lines.append((rival.what, [(step, score_of(mean)) for step, mean in zip(probed, means, strict=True)]))
    return lines
