"""Learning curves: losses of a probe fit to fewer training images, from the folds' statistics.

For a number m of folds, each fold in turn is held out, and the probe is fit to the m folds after it
(the first follows the last) and scored on the fold held out. The last point is cross-validation, so
its loss is the probe's ``cv_loss``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.context import contexts
from probes.moments import Moments, total
from probes.probe_set import WITH_POSITION, Cell
from probes.ridge import (
    PENALTIES,
    Decompose,
    Further,
    Problem,
    absolute,
    best_of,
    columns_of,
    every_time,
    loss,
    others,
    solve,
)
from probes.solve import position_scale
from probes.statistics import SufficientStatistics


@dataclass(frozen=True, slots=True)
class Point:
    """The cross-validated loss of a probe fit to a number of images."""

    images: float
    """Mean over the folds held out."""
    loss: float
    """Full-resolution mean squared error on held-out images, at this point's best penalty."""
    explained: float
    """1 - loss / loss of the mean; negative if the probe is worse than the mean."""


def learning_curve(
    folds: Sequence[SufficientStatistics],
    task: str,
    cell: Cell,
    step_index: int,
    decomposing: Decompose = every_time,
) -> tuple[Point, ...]:
    """The probe of ``cell`` fit to 1, 2, ... of the folds.

    ``step_index`` is the index of the cell's step among the probed steps. The probe is one of
    activations, with or without position, or of permuted labels. ``decomposing`` may be shared by
    curves of the same site and step.
    """
    (context,) = contexts(folds, [task])
    site = (cell.network, cell.layer)
    columns = context.columns(site)
    moments = [sums.moments[site][step_index] for sums in context.folds]
    features, targets = columns.activation_columns, columns.targets([(task, cell.draw)])
    further = None
    if cell.probe == WITH_POSITION:
        further = Further(columns.position_columns, position_scale(moments, columns))
    problem = Problem(targets, further)
    within = context.within(task, cell.grid)
    images = torch.tensor([float(sums.images) for sums in context.folds])
    loss_of_mean = _losses_of_mean(moments, targets) + within
    all_moments = total(moments)
    points = []
    for count in range(1, len(folds)):
        # A relative penalty is proportional to the scatter, which is smaller on fewer rows.
        alphas = absolute(PENALTIES, all_moments, features, further) * count / (len(folds) - 1)
        losses = _losses(moments, features, problem, count, alphas, decomposing)
        if context.has_position:
            best = losses.gather(0, best_of(losses)[None])[0] + within
        else:
            best = losses[best_of(losses.mean(1, keepdim=True))[0]] + within
        points.append(
            Point(
                images=float(images.mean()) * count,
                loss=float(best.mean()),
                explained=float(1 - best.mean() / loss_of_mean.mean()),
            )
        )
    return tuple(points)


def _losses(
    folds: Sequence[Moments],
    features: Tensor,
    problem: Problem,
    count: int,
    alphas: Float[Tensor, " p"],
    decomposing: Decompose,
) -> Float[Tensor, "p k"]:
    losses = []
    for held_out, fold in enumerate(folds):
        chosen = others(len(folds), held_out, count)
        train = total(folds[index] for index in chosen)
        eigenbasis = decomposing(chosen, train.scatter[features][:, features])
        weights, intercept = solve(
            train, features, problem.targets, alphas, problem.further, eigenbasis
        )
        losses.append(
            loss(fold, columns_of(features, problem), problem.targets, weights, intercept)
        )
    return torch.stack(losses).mean(0)


def _losses_of_mean(folds: Sequence[Moments], targets: Tensor) -> Float[Tensor, " k"]:
    """Mean over the folds of the error of the other folds' mean target."""
    nothing = torch.arange(0)
    no_penalty = torch.zeros(1, dtype=torch.float64)
    return _losses(folds, nothing, Problem(targets), len(folds) - 1, no_penalty, every_time)[0]
