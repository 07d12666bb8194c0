"""The authors' way of fitting probes against ridge in closed form: same cells, same images, same scores.

The run's probes are read from its folder. Its items are generated again, as no activation was kept: the chosen cells'
are held for the training items, and read as they stream by for the test items.
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

from bench.adam_vs_ridge.cells import Choice, ProbeCell, chosen
from bench.adam_vs_ridge.results import Baselines, Comparison, Outcome
from bench.measure import timed
from bench.networks import alone
from bench.profiling.published import update_seconds
from bench.runs.reopen import reopened
from bench.runs.results import Results
from bench.study import Study
from datasets.labels import Labels
from datasets.splits import Block
from engines.engine import Engine
from extract.networks import TRAINED
from extract.stream import Reducer
from probes.accumulate import side_of
from probes.adam import BATCH, RATE, SEED, Epochs, block_loss, reading, target_blocks, train
from probes.blocks import Blocks, block_means
from probes.bootstrap import Array, paired_difference
from probes.moments import moments_of, total
from probes.ridge import Fit, fit
from probes.score import sign_of
from probes.task import Task

_RIDGES, _UPDATES = 3, 30
"""Times ridge is timed before and again after Adam, and the published update; the median counts."""


def compare_recipes(results: Results, choice: Choice, threads: int | None) -> Comparison:
    """Fit and score the chosen cells both ways. Generates every item of the run once more."""
    contestants = chosen(results, choice)
    study, engine = reopened(results, threads)
    steps = sorted({contestant.cell.step for contestant in contestants})
    tasks = {contestant.task: study.tasks[contestant.task] for contestant in contestants}
    keep = Keep({contestant.site for contestant in contestants}, tasks)
    with tqdm(total=study.items + len(contestants), desc="generating", smoothing=0.05) as bar:
        _generate(study, engine, study.train, steps, keep, bar)
        bar.set_description("fitting")
        fitted = []
        for contestant in contestants:
            fitted.append(_fit(contestant, keep, study, choice.epochs))
            bar.update()
        keep.forget()
        bar.set_description("generating")
        evaluator = Evaluator(contestants, [both.epochs for both in fitted], tasks)
        _generate(study, engine, study.test, steps, evaluator, bar)
    cells = tuple(
        _outcome(results, study, contestant, both, judged)
        for contestant, both, judged in zip(contestants, fitted, evaluator.judged, strict=True)
    )
    train_images, test_images = (
        sum(len(block.items) for block in blocks) for blocks in (study.train, study.test)
    )
    return Comparison(
        choice.epochs, BATCH, RATE, SEED, train_images, test_images, study.threads, cells
    )


class Keep:
    """Holds the chosen cells' activations of the training images, block by block, and the images' targets."""

    def __init__(self, sites: set[tuple[str, int]], tasks: Mapping[str, Task]) -> None:
        self.held: dict[tuple[str, int], list[Float[Tensor, "n t c"]]] = {
            site: [] for site in sites
        }
        self.targets: dict[str, list[Float[Tensor, "n h w"]]] = {name: [] for name in tasks}
        self._tasks = tasks

    def update(
        self, step: int, network: str, layer: str, activation: Float[Tensor, "n t c"]
    ) -> None:
        """Keep an activation if it is a chosen cell's."""
        if network == TRAINED and (layer, step) in self.held:
            # A copy: an activation is often a view that would keep the other half of its batch alive.
            self.held[layer, step].append(activation.float().cpu().clone())

    def finish(self, labels: Labels) -> None:
        """Take the block's targets."""
        for name, kept in self.targets.items():
            kept.append(self._tasks[name].target(labels)[:, 0].float())

    def forget(self) -> None:
        """Let all activations go."""
        self.held.clear()


@dataclass(frozen=True, slots=True)
class _Fitted:
    epochs: Epochs
    ridge: Fit
    ridge_seconds: float
    adam_seconds: float
    published_seconds: float


def _fit(contestant: ProbeCell, keep: Keep, study: Study, epochs: int) -> _Fitted:
    """Fit a cell both ways. Ridge is timed before and after Adam, so that a busy moment meets neither alone."""
    held, targets = keep.held[contestant.site], keep.targets[contestant.task]
    activations, target = torch.cat(held), torch.cat(targets)
    is_mask, side = study.tasks[contestant.task].thresholded, side_of(activations)
    folds = [block.fold for block in study.train]

    def by_ridge() -> Fit:
        return in_closed_form(held, targets, folds)

    def by_adam() -> Epochs:
        return train(activations, target_blocks(target, side, is_mask), is_mask, epochs)

    before = [timed(by_ridge)[1] for _ in range(_RIDGES)]
    trained, seconds = timed(by_adam)
    after = [timed(by_ridge)[1] for _ in range(_RIDGES)]
    updates = epochs * ceil(len(activations) / BATCH)
    published = [
        update_seconds(activations[:1], target.shape[-1], is_mask) for _ in range(_UPDATES)
    ]
    return _Fitted(
        trained, by_ridge(), median(before + after), seconds, updates * median(published)
    )


def in_closed_form(
    activations: Sequence[Float[Tensor, "n t c"]],
    targets: Sequence[Float[Tensor, "n h w"]],
    folds: Sequence[int],
) -> Fit:
    """The run's fit of one cell from its blocks: their sums, the penalty by cross-validation, the solution."""
    sums: list[list[Tensor]] = [[] for _ in range(1 + max(folds))]
    channels, side = activations[0].shape[-1], side_of(activations[0])
    for rows, target, fold in zip(activations, targets, folds, strict=True):
        wanted = block_means(target, side)[..., None]
        sums[fold].append(torch.cat([rows.double(), wanted], dim=-1).flatten(0, 1))
    moments = [total(moments_of(rows) for rows in fold) for fold in sums]
    return fit(moments, torch.arange(channels), torch.tensor([channels]))


@dataclass
class _Judged:
    """What the test images say of one cell, block by block."""

    ridge: list[Float[Tensor, "metrics n"]] = field(default_factory=list)
    adam: list[Float[Tensor, "metrics n"]] = field(default_factory=list)
    """After the last epoch."""
    by_epoch: list[Float[Tensor, "epochs n"]] = field(default_factory=list)
    """By the headline metric."""
    loss: list[Float[Tensor, " epochs"]] = field(default_factory=list)
    """Times the block's images."""


class Evaluator:
    """Scores both probes of every cell on test images, the recipe's after every epoch."""

    def __init__(
        self, contestants: Sequence[ProbeCell], epochs: Sequence[Epochs], tasks: Mapping[str, Task]
    ) -> None:
        self.judged = [_Judged() for _ in contestants]
        self._rivals = list(zip(contestants, epochs, self.judged, strict=True))
        self._tasks = tasks
        self._seen: dict[tuple[str, int], Tensor] = {}

    def update(
        self, step: int, network: str, layer: str, activation: Float[Tensor, "n t c"]
    ) -> None:
        """Hold a chosen cell's activation until its block is finished."""
        if network == TRAINED and any(
            contestant.site == (layer, step) for contestant, *_ in self._rivals
        ):
            self._seen[layer, step] = activation.float().cpu().clone()

    def finish(self, labels: Labels) -> None:
        """Score the block."""
        for contestant, epochs, judged in self._rivals:
            task, seen = self._tasks[contestant.task], self._seen[contestant.site]
            target = task.target(labels).double()
            blocks, metrics = Blocks(target, contestant.cell.side), task.metrics
            own = (seen.double() @ contestant.weights.double() + contestant.intercept.double()).mT[
                None
            ]
            threshold = torch.tensor([contestant.threshold])
            judged.ridge.append(
                torch.cat([metric.compute(own, blocks, threshold) for metric in metrics])
            )
            outputs = epochs.predict(seen)
            # Of two classes the larger output wins: their difference against 0. Maps have no threshold.
            theirs, zeros = reading(outputs).double(), torch.zeros(len(outputs))
            judged.adam.append(
                torch.cat([metric.compute(theirs[-1:], blocks, zeros[-1:]) for metric in metrics])
            )
            judged.by_epoch.append(metrics[0].compute(theirs, blocks, zeros))
            in_blocks = target_blocks(target[:, 0].float(), contestant.cell.side, task.thresholded)
            losses = torch.stack([block_loss(one, in_blocks) for one in outputs])
            judged.loss.append(losses.double() * len(seen))
        self._seen.clear()


def _generate(
    study: Study,
    engine: Engine,
    blocks: Sequence[Block],
    steps: Sequence[int],
    reducer: Reducer,
    bar: tqdm[None],
) -> None:
    recorded = alone(study, engine, study.config.batch)
    for block in blocks:
        study.stream(recorded, block.items, [reducer], steps)
        bar.update(len(block.items))


def _outcome(
    results: Results, study: Study, contestant: ProbeCell, fitted: _Fitted, judged: _Judged
) -> Outcome:
    cell, stored, task = (
        contestant.cell,
        results.tasks[contestant.task],
        study.tasks[contestant.task],
    )
    own, theirs = (torch.cat(rows, dim=-1).numpy() for rows in (judged.ridge, judged.adam))
    by_epoch = np.nanmean(torch.cat(judged.by_epoch, dim=-1).numpy(), axis=1)
    test_loss = (torch.stack(judged.loss).sum(0) / own.shape[1]).numpy()
    kept = int(test_loss.argmin())
    weights = contestant.weights
    return Outcome(
        task=contestant.task,
        layer=cell.layer,
        step=cell.step + 1,
        channels=len(weights),
        tokens=cell.side**2,
        unit=stored.unit,
        scores=tuple(
            baselines(metric.name, metric.higher_is_better, ours, other)
            for metric, ours, other in zip(task.metrics, own, theirs, strict=True)
        ),
        least_test_loss_epoch=kept + 1,
        least_test_loss_score=float(by_epoch[kept]),
        ridge_seconds=fitted.ridge_seconds,
        adam_seconds=fitted.adam_seconds,
        published_seconds=fitted.published_seconds,
        regenerated_difference=float(np.abs(own[0] - stored.score(cell)).max()),
        refit_difference=float((fitted.ridge.weights - weights).abs().max() / weights.abs().max()),
        train_loss=tuple(fitted.epochs.train_loss.tolist()),
        test_loss=tuple(test_loss.tolist()),
        adam_by_epoch=tuple(by_epoch.tolist()),
    )


def baselines(metric: str, higher_is_better: bool, ridge: Array, adam: Array) -> Baselines:
    """Both probes' scores of every test image, held against each other."""
    sign = sign_of(higher_is_better)
    gap = paired_difference(sign * ridge, sign * adam)
    return Baselines(
        metric=metric,
        higher_is_better=higher_is_better,
        ridge=float(np.nanmean(ridge)),
        adam=float(np.nanmean(adam)),
        gain=(float(gap.mean[0]), float(gap.low[0]), float(gap.high[0])),
        p=float(gap.p[0]),
        ridge_scores=_plain(ridge),
        adam_scores=_plain(adam),
    )


def _plain(scores: Array) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(score) else float(score) for score in scores)
