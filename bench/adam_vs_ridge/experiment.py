"""Fit the same cells with Adam, as published, and with ridge, and score both on the same images.

The run's probes are read from its folder. No run stores activations, so its items are generated
again: the cells' activations of the training images are held, those of test images scored at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from bench.adam_vs_ridge.cells import Choice, ProbeCell, choose_cells
from bench.adam_vs_ridge.fits import ActivationStore, Fits
from bench.adam_vs_ridge.results import SCHEMA, CellComparison, RecipeComparison, ScorePair
from bench.measure import timed
from bench.profiling.published import update_seconds
from bench.runs.regenerate import generate
from bench.runs.reopen import reopened
from bench.runs.results import Results
from bench.steps import number_of
from bench.study import Study
from datasets.grid import Grid
from datasets.labels import Labels
from datasets.splits import count_items
from probes.adam import BATCH, RATE, SEED, Epochs, block_loss, reading, target_blocks, train
from probes.blocks import Blocks, block_means
from probes.bootstrap import Array, paired_difference
from probes.moments import moments_of, total
from probes.ridge import Fit, fit
from probes.score import sign_of
from probes.task import Task

_RIDGES, _UPDATES = 3, 30
"""Timings of ridge before and again after Adam, and of the published update: medians count."""


def compare_recipes(results: Results, choice: Choice, threads: int | None) -> RecipeComparison:
    """Fit and score the chosen cells both ways. Generates every item of the run again."""
    cells = choose_cells(results, choice)
    study, engine = reopened(results, threads)
    steps = sorted({cell.cell.step for cell in cells})
    tasks = {cell.task: study.tasks[cell.task] for cell in cells}
    store = ActivationStore({cell.site for cell in cells}, tasks)
    with tqdm(total=study.items + len(cells), desc="generating", smoothing=0.05) as bar:
        generate(study, engine, study.train, steps, store, bar)
        bar.set_description("fitting")
        fits = []
        for cell in cells:
            fits.append(_fit(cell, store, study, Fits(results, choice.epochs)))
            bar.update()
        store.activations.clear()
        bar.set_description("generating")
        evaluator = Evaluator(cells, [both.epochs for both in fits], tasks)
        generate(study, engine, study.test, steps, evaluator, bar)
    return RecipeComparison(
        schema=SCHEMA,
        epochs=choice.epochs,
        batch=BATCH,
        rate=RATE,
        seed=SEED,
        train_images=count_items(study.train),
        test_images=count_items(study.test),
        threads=study.threads,
        cells=tuple(
            _comparison(results, study.tasks[cell.task], cell, both, scores)
            for cell, both, scores in zip(cells, fits, evaluator.scores, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True)
class _Fits:
    epochs: Epochs
    ridge: Fit
    ridge_seconds: float
    adam_seconds: float | None
    published_seconds: float


def _fit(cell: ProbeCell, store: ActivationStore, study: Study, fits: Fits) -> _Fits:
    """Fit a cell both ways; a fit of the published recipe that is stored is read.

    Ridge is timed before and after Adam, so that other load on the machine slows both down. A fit
    that a command with other threads stored has no time to compare.
    """
    blocks, targets = store.activations[cell.site], store.targets[cell.task]
    activations, target = torch.cat(blocks), torch.cat(targets)
    is_mask, grid = study.tasks[cell.task].thresholded, cell.cell.grid
    folds = [block.fold for block in study.train]

    def by_ridge() -> Fit:
        return in_closed_form(blocks, targets, folds, grid)

    def by_adam() -> Epochs:
        return train(activations, target_blocks(target, grid, is_mask), is_mask, fits.epochs)

    before = [timed(by_ridge)[1] for _ in range(_RIDGES)]
    trained = fits.get(cell.task, (*cell.site, 0), by_adam)
    after = [timed(by_ridge)[1] for _ in range(_RIDGES)]
    updates = fits.epochs * ceil(len(activations) / BATCH)
    _, height, width = target.shape
    published = [update_seconds(activations[:1], (height, width), is_mask) for _ in range(_UPDATES)]
    return _Fits(
        trained.epochs,
        by_ridge(),
        median(before + after),
        trained.seconds if trained.threads == study.threads else None,
        updates * median(published),
    )


def in_closed_form(
    activations: Sequence[Float[Tensor, "n t c"]],
    targets: Sequence[Float[Tensor, "n h w"]],
    folds: Sequence[int],
    grid: Grid,
) -> Fit:
    """Fit one cell by ridge as a run does, from its blocks, their folds and the tokens' grid."""
    rows: list[list[Tensor]] = [[] for _ in range(1 + max(folds))]
    channels = activations[0].shape[-1]
    for x, target, fold in zip(activations, targets, folds, strict=True):
        y = block_means(target, grid)[..., None]
        rows[fold].append(torch.cat([x.double(), y], dim=-1).flatten(0, 1))
    moments = [total(moments_of(block) for block in fold) for fold in rows]
    return fit(moments, torch.arange(channels), torch.tensor([channels]))


@dataclass
class _Scores:
    """Scores of one cell on the test images, block by block."""

    ridge: list[Float[Tensor, "metrics n"]] = field(default_factory=list)
    adam: list[Float[Tensor, "metrics n"]] = field(default_factory=list)
    """After the last epoch."""
    by_epoch: list[Float[Tensor, "epochs n"]] = field(default_factory=list)
    """Adam's, by the headline metric."""
    loss: list[Float[Tensor, " epochs"]] = field(default_factory=list)
    """Times the number of the block's images."""


class Evaluator(ActivationStore):
    """A reducer that scores both probes of every cell on test images, Adam's after every epoch."""

    def __init__(
        self, cells: Sequence[ProbeCell], epochs: Sequence[Epochs], tasks: Mapping[str, Task]
    ) -> None:
        super().__init__({cell.site for cell in cells}, tasks)
        self.scores = [_Scores() for _ in cells]
        self._probes = list(zip(cells, epochs, self.scores, strict=True))

    def finish(self, labels: Labels) -> None:
        """Score the block, and drop its activations."""
        for cell, epochs, scores in self._probes:
            task, (x,) = self._tasks[cell.task], self.activations[cell.site]
            target, metrics = task.target(labels).double(), task.metrics
            blocks = Blocks(target, cell.cell.grid)
            ridge = (x.double() @ cell.weights.double() + cell.intercept.double()).mT[None]
            threshold = torch.tensor([cell.threshold])
            scores.ridge.append(
                torch.cat([metric.compute(ridge, blocks, threshold) for metric in metrics])
            )
            outputs = epochs.predict(x)
            # The larger of two classes' outputs wins: their difference is cut at 0. Metrics of
            # maps ignore the threshold.
            adam, zeros = reading(outputs).double(), torch.zeros(len(outputs))
            scores.adam.append(
                torch.cat([metric.compute(adam[-1:], blocks, zeros[-1:]) for metric in metrics])
            )
            scores.by_epoch.append(metrics[0].compute(adam, blocks, zeros))
            in_blocks = target_blocks(target[:, 0].float(), cell.cell.grid, task.thresholded)
            losses = torch.stack([block_loss(output, in_blocks) for output in outputs])
            scores.loss.append(losses.double() * len(x))
        for activations in self.activations.values():
            activations.clear()


def _comparison(
    results: Results, task: Task, probe: ProbeCell, fits: _Fits, scores: _Scores
) -> CellComparison:
    cell, stored, weights = probe.cell, results.tasks[probe.task], probe.weights
    ridge, adam = (torch.cat(rows, dim=-1).numpy() for rows in (scores.ridge, scores.adam))
    by_epoch = np.nanmean(torch.cat(scores.by_epoch, dim=-1).numpy(), axis=1)
    test_loss = (torch.stack(scores.loss).sum(0) / ridge.shape[1]).numpy()
    least = int(test_loss.argmin())
    return CellComparison(
        task=probe.task,
        layer=cell.layer,
        step=number_of(cell.step),
        channels=len(weights),
        tokens=cell.grid.tokens,
        unit=stored.unit,
        scores=tuple(
            score_pair(metric.name, metric.higher_is_better, *rows)
            for metric, *rows in zip(task.metrics, ridge, adam, strict=True)
        ),
        least_test_loss_epoch=least + 1,
        least_test_loss_score=float(by_epoch[least]),
        ridge_seconds=fits.ridge_seconds,
        adam_seconds=fits.adam_seconds,
        published_seconds=fits.published_seconds,
        regenerated_difference=float(np.abs(ridge[0] - stored.score(cell)).max()),
        refit_difference=float((fits.ridge.weights - weights).abs().max() / weights.abs().max()),
        train_loss=tuple(fits.epochs.train_loss.tolist()),
        test_loss=tuple(test_loss.tolist()),
        adam_by_epoch=tuple(by_epoch.tolist()),
    )


def score_pair(metric: str, higher_is_better: bool, ridge: Array, adam: Array) -> ScorePair:
    """Compare both probes by one metric, paired over test images."""
    sign = sign_of(higher_is_better)
    gain = paired_difference(sign * ridge, sign * adam)
    return ScorePair(
        metric=metric,
        higher_is_better=higher_is_better,
        ridge=float(np.nanmean(ridge)),
        adam=float(np.nanmean(adam)),
        gain=(float(gain.mean[0]), float(gain.low[0]), float(gain.high[0])),
        p=float(gain.p[0]),
        ridge_scores=_json_scores(ridge),
        adam_scores=_json_scores(adam),
    )


def _json_scores(scores: Array) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(score) else float(score) for score in scores)
