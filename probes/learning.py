"""Learning curves: how well a probe does from fewer training images, from the folds' sums alone.

For a number m of folds, each fold in turn is held out, the probe is fit to the m folds after it (the first follows the
last), and scored on the fold held out. The last point is cross-validation itself, so it is the probe's ``cv_loss``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.accumulate import SufficientStatistics
from probes.moments import Moments, total
from probes.probe_set import WITH_POSITION, Cell
from probes.ridge import PENALTIES, absolute, loss, others, solve
from probes.solve import contexts, position_scale, scaled


@dataclass(frozen=True, slots=True)
class Point:
    """A probe fit to so many images."""

    images: float
    """Mean over the folds held out."""
    loss: float
    """Mean squared error on images held out, at full resolution, at the best penalty for so many images."""
    explained: float
    """1 - loss / loss of predicting the mean; below zero it is worse than that."""


def learning_curve(
    folds: Sequence[SufficientStatistics], task: str, cell: Cell, at: int
) -> tuple[Point, ...]:
    """The probe of ``cell`` from 1, 2, ... of the folds; ``at`` is the place of its step among the probed steps.

    Of activations, with or without position, or of permuted labels.
    """
    (context,) = contexts(folds, [task])
    site = (cell.network, cell.layer)
    columns = context.columns(site)
    moments = [sums.moments[site][at] for sums in context.folds]
    features, targets = columns.activations, columns.targets([(task, cell.draw)])
    if cell.probe == WITH_POSITION:
        features = torch.cat([features, columns.site])
        scale = position_scale(moments, columns)
        moments = [scaled(fold, columns.site, scale) for fold in moments]
    within = torch.stack(
        [sums.within[task, cell.side] / sums.images for sums in context.folds]
    ).mean(0)
    images = torch.tensor([float(sums.images) for sums in context.folds])
    mean = (
        _losses(
            moments, features[:0], targets, len(folds) - 1, torch.zeros(1, dtype=torch.float64)
        )[0]
        + within
    )
    everything = total(moments)
    points = []
    for count in range(1, len(folds)):
        # A relative penalty means the same on fewer rows: it shrinks with the scatter.
        alphas = absolute(PENALTIES, everything, features) * count / (len(folds) - 1)
        losses = _losses(moments, features, targets, count, alphas)
        best = (
            losses.min(0).values if context.has_position else losses[losses.mean(1).argmin()]
        ) + within
        points.append(
            Point(
                images=float(images.mean()) * count,
                loss=float(best.mean()),
                explained=float(1 - best.mean() / mean.mean()),
            )
        )
    return tuple(points)


def _losses(
    folds: Sequence[Moments],
    features: Tensor,
    targets: Tensor,
    count: int,
    alphas: Float[Tensor, " p"],
) -> Float[Tensor, "p k"]:
    losses = []
    for held_out, fold in enumerate(folds):
        weights, intercept = solve(total(others(folds, held_out, count)), features, targets, alphas)
        losses.append(loss(fold, features, targets, weights, intercept))
    return torch.stack(losses).mean(0)
