"""How well one model's probes predict the final labels of another model for the same item.

The reader's probes are those that its run fitted to its own labels; nothing is fitted here. At
every step they predict a label, which is scored against

    the reader's own final label            what they were fitted for,
    the other model's label of this item    what the models share,
    its label of other images               the controls of :mod:`bench.across.agreement`.

The mean of the other model's labels of all other items is a further control: it predicts the label
without any reading.

The same is read from the latent itself and from the predicted clean latent, by the run's own probes
of these: what a linear reader of the noise predicts of another model's image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from bench.across.agreement import (
    MEAN,
    OTHER_ITEM,
    OTHER_PROMPT,
    OTHER_SEED,
    SAME,
    against_mean,
    metric_of,
    other_items,
    over_controls,
    unlike_words,
)
from bench.across.readings import READ, Readings
from bench.analysis.noise_levels import at_log_snr
from datasets.grid import Grid
from extract.networks import INPUT, TRAINED
from probes.blocks import Blocks
from probes.bootstrap import DRAWS, Array, Difference, Score, effect_of, score_of
from probes.probe_set import Cell
from probes.task import Task

OWN = "the reader's own label"
_CONTROLS = (OTHER_SEED, OTHER_ITEM, MEAN)
"""What a reading has to exceed: what the prompt alone tells, and what holds for any item."""
FIRST = "first step"
ANY = "any"
LABELS = (OWN, SAME, OTHER_SEED, OTHER_PROMPT, OTHER_ITEM, MEAN)
"""Against what predictions are scored; ``MEAN`` is itself a prediction of the other's label."""


@dataclass(frozen=True, eq=False)
class Curves:
    """One reader's predictions along the steps, scored against labels of another model."""

    reader: str
    other: str
    unlike: str
    task: str
    metric: str
    network: str
    """What is read: activations (``trained``), the latent (``input``) or ``clean``."""
    steps: tuple[int, ...]
    log_snr: tuple[float, ...]
    layers: tuple[str, ...]
    scores: dict[str, Array]
    """By whose label: steps x items."""

    @cached_property
    def gain(self) -> Difference:
        """Per step, the gain over the strongest control."""
        # Intervals alone are used of so many curves, which need fewer draws than tests.
        return over_controls(self.scores, _CONTROLS, DRAWS)

    @property
    def shared_from(self) -> int | None:
        """The index of the step from which on every interval of the gain lies above zero."""
        failing = np.flatnonzero(~(self.gain.low > 0))
        first = int(failing[-1]) + 1 if len(failing) else 0
        return first if first < len(self.steps) else None


def transfers(readings: Sequence[Readings]) -> list[Curves]:
    """Return the curves of every ordered pair of models, task and network that is read."""
    return [
        curves for reader, other in permutations(readings, 2) for curves in _of_pair(reader, other)
    ]


def _of_pair(reader: Readings, other: Readings) -> Iterator[Curves]:
    results = reader.model.results
    for name, task in reader.tasks.items():
        targets = _targets(task, reader, other)
        blocks: dict[Grid, dict[str, list[Blocks]]] = {}
        for network in READ:
            cells = [reader.cell(name, network, step) for step in results.steps]
            found = [cell for cell in cells if cell is not None]
            if len(found) < len(cells):
                continue
            for grid in {cell.grid for cell in found} - blocks.keys():
                blocks[grid] = {
                    label: [Blocks(maps.double(), grid) for maps in sets]
                    for label, sets in targets.items()
                }
            scores = {label: _scores(reader, name, found, blocks, label) for label in targets}
            # The same at every step.
            scores[MEAN] = np.tile(against_mean(task, other), (len(found), 1))
            yield Curves(
                reader.model.name,
                other.model.name,
                unlike_words(reader.model, other.model),
                name,
                metric_of(task).name,
                network,
                results.steps,
                results.log_snr or (),
                tuple(cell.layer for cell in found),
                scores,
            )


def _scores(
    reader: Readings,
    name: str,
    cells: Sequence[Cell],
    blocks: Mapping[Grid, Mapping[str, Sequence[Blocks]]],
    label: str,
) -> Array:
    """Return the scores of cells against one kind of label, cells x items."""
    stored = reader.model.results.tasks[name]
    table = np.empty((len(cells), len(reader.items)))
    for grid in {cell.grid for cell in cells}:
        rows = [row for row, cell in enumerate(cells) if cell.grid == grid]
        read = torch.stack([reader.predictions[name, cells[row]].mT for row in rows]).double()
        cuts = [float(stored.thresholds[stored.row(cells[row])]) for row in rows]
        thresholds = torch.tensor(cuts, dtype=torch.float64)
        compute = metric_of(reader.tasks[name]).compute
        table[rows] = np.mean(
            [compute(read, x, thresholds).numpy() for x in blocks[grid][label]], axis=0
        )
    return table


def _targets(task: Task, reader: Readings, other: Readings) -> dict[str, list[Tensor]]:
    """Return the maps to score against; of another item there are several."""
    kinds = {
        OWN: [reader.own],
        SAME: [other.own],
        OTHER_SEED: [other.reseeded],
        OTHER_PROMPT: [other.other_prompt],
        OTHER_ITEM: [other.own.take(order) for order in other_items(len(other.items))],
    }
    return {name: [task.target(labels) for labels in sets] for name, sets in kinds.items()}


@dataclass(frozen=True, slots=True)
class AtLevel:
    """What pairs of models share at one noise level, averaged over pairs per item."""

    task: str
    metric: str
    network: str
    pairs: int
    unlike: str
    """In what the models of these pairs differ; ``ANY`` for all pairs."""
    log_snr: float | None
    """None for the first step."""
    scores: dict[str, Score]
    gain: Score
    """Over the strongest control, with the interval over items."""
    over_latent: Score | None
    """The activations' score less that of the latent itself; None for other networks."""
    gain_over_latent: Score | None
    """The same of the gains over another item: what is told of this item, not of all."""

    @property
    def level(self) -> str:
        """The noise level, or the first step, in words."""
        return FIRST if self.log_snr is None else f"{self.log_snr:g}"


def averaged(curves: Sequence[Curves], levels: Sequence[float]) -> list[AtLevel]:
    """Average pairs per item: all pairs, and those that differ in the same.

    The first step is that of each sampler, at which the latents are noise or nearly so.
    """
    rows = []
    kinds = list(dict.fromkeys(curve.unlike for curve in curves))
    for unlike in (ANY, *(kinds if len(kinds) > 1 else ())):
        chosen = [curve for curve in curves if unlike in (ANY, curve.unlike)]
        for task in dict.fromkeys(curve.task for curve in chosen):
            of_task = [curve for curve in chosen if curve.task == task]
            by_network = {
                network: [curve for curve in of_task if curve.network == network]
                for network in READ
            }
            tables = {
                network: _at_levels(members, levels)
                for network, members in by_network.items()
                if members
            }
            for network, table in tables.items():
                first = by_network[network][0]
                for column, level in enumerate((None, *levels)):
                    values = _column(table, column)
                    gain = over_controls(values, _CONTROLS)
                    latent = tables.get(INPUT) if network == TRAINED else None
                    rows.append(
                        AtLevel(
                            task,
                            first.metric,
                            network,
                            len(by_network[network]),
                            unlike,
                            level,
                            {label: score_of(values[label]) for label in LABELS},
                            Score(*(float(x[0]) for x in (gain.mean, gain.low, gain.high))),
                            *_over_latent(values, latent, column),
                        )
                    )
    return rows


def _over_latent(
    values: dict[str, Array], latent: dict[str, Array] | None, column: int
) -> tuple[Score | None, Score | None]:
    if latent is None:
        return None, None
    gains = [table[SAME] - table[OTHER_ITEM] for table in (values, _column(latent, column))]
    return effect_of(values[SAME] - latent[SAME][column]), effect_of(gains[0] - gains[1])


def _column(table: dict[str, Array], column: int) -> dict[str, Array]:
    return {label: rows[column] for label, rows in table.items()}


def _at_levels(curves: Sequence[Curves], levels: Sequence[float]) -> dict[str, Array]:
    """Return, by whose label, scores at the first step and at the levels (levels x items)."""
    result = {}
    for label in LABELS:
        tables = [
            np.vstack(
                [
                    curve.scores[label][:1],
                    at_log_snr(curve.scores[label].T, curve.log_snr, levels).T,
                ]
            )
            for curve in curves
        ]
        result[label] = np.mean(tables, axis=0)
    return result
