"""Ridge regression from moments: every penalty and every target from one eigendecomposition.

With X'X and X'y centred, the minimiser of |y - X w - b|^2 + a |w|^2 is

    w = (X'X + a I)^-1 X'y,    b = mean(y) - mean(x)'w

and its squared error on other rows, given only their moments (centred on their own means), is

    |y - X w - b|^2 = y'y - 2 w'X'y + w'X'X w + n (mean(y) - mean(x)'w - b)^2

so the penalty is chosen by exact K-fold cross-validation without a second pass over the rows. The
loss per fold and the mean over folds are those of scikit-learn's ``GridSearchCV`` over
``Ridge(alpha=a)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.eigenbasis import Eigenbasis, decompose, weights_of, weights_with_further
from probes.moments import Moments, total
from probes.standardised import deviations, scaled

PENALTIES: tuple[float, ...] = tuple(10.0 ** (-6 + 8 * i / 19) for i in range(20))
"""Relative penalties, 1e-6 to 1e2; :func:`absolute` multiplies them by the mean diagonal of X'X."""

Folds = tuple[int, ...]
"""The numbers of the folds that a probe is fit to."""
Decompose = Callable[[Folds, Tensor], Eigenbasis]
"""Takes the folds of the training rows and the features' scatter, and returns its eigenbasis."""


def every_time(_: Folds, scatter: Tensor) -> Eigenbasis:
    """Solve every eigenproblem, and keep none."""
    return decompose(scatter)


@dataclass(frozen=True, slots=True)
class Further:
    """A few columns that probes read beside the features."""

    columns: Tensor
    """Indices into the moments."""
    factor: float
    """They have the penalty that they would have if they were multiplied by it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Target columns to fit on the features, or on the features and further columns."""

    targets: Tensor
    further: Further | None = None
    groups: Int[Tensor, " k"] | None = None
    """A number per target; targets with the same number share the penalty of least mean loss.

    By default every target has its own penalty.
    """


def absolute(
    penalties: Sequence[float], moments: Moments, features: Tensor, further: Further | None = None
) -> Float[Tensor, " p"]:
    """Relative penalties in the units of the scatter of all columns that are read."""
    spread = moments.scatter.diagonal()
    read = spread[features]
    if further is not None:
        read = torch.cat([read, spread[further.columns] * further.factor**2])
    scale = read.mean().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.tensor(penalties, dtype=torch.float64).to(scale.device) * scale


def others(folds: int, held_out: int, count: int) -> Folds:
    """The numbers of the ``count`` folds after ``held_out``, where the first follows the last.

    Their moments are added up, as subtracting those of the held-out fold from the total would
    cancel digits.
    """
    return tuple(sorted((held_out + 1 + k) % folds for k in range(count)))


@dataclass(frozen=True, slots=True)
class Fit:
    """Ridge probes of k targets on c features, each with its cross-validated penalty."""

    weights: Float[Tensor, "c k"]
    intercept: Float[Tensor, " k"]
    penalty_index: Int[Tensor, " k"]
    """Index into the relative penalties."""
    cv_loss: Float[Tensor, "p k"]
    """Mean over folds of the held-out mean squared error, for every relative penalty."""

    @property
    def chosen_loss(self) -> Float[Tensor, " k"]:
        """Cross-validated mean squared error at the chosen penalty."""
        return self.cv_loss.gather(0, self.penalty_index[None])[0]

    @property
    def at_edge(self) -> Tensor:
        """Whether the chosen penalty is at an end of the grid, so a better one may lie outside."""
        return (self.penalty_index == 0) | (self.penalty_index == len(self.cv_loss) - 1)

    def cpu(self) -> Fit:
        """The same probes on the CPU."""
        return Fit(
            self.weights.cpu(), self.intercept.cpu(), self.penalty_index.cpu(), self.cv_loss.cpu()
        )


def solve(
    moments: Moments,
    features: Tensor,
    targets: Tensor,
    alphas: Float[Tensor, " p"],
    further: Further | None = None,
    eigenbasis: Eigenbasis | None = None,
) -> tuple[Float[Tensor, "p c k"], Float[Tensor, "p k"]]:
    """Weights and intercepts of the target columns for every penalty.

    Weights are of the features, then of the further columns. ``eigenbasis`` is that of the
    features' scatter, if it is known.
    """
    rows = moments.scatter[features]
    if eigenbasis is None:
        eigenbasis = decompose(rows[:, features])
    cross, means = rows[:, targets], moments.mean[features]
    if further is None:
        weights = weights_of(eigenbasis, cross, alphas)
    else:
        further_rows = moments.scatter[further.columns]
        weights = weights_with_further(
            eigenbasis,
            rows[:, further.columns],
            further_rows[:, further.columns],
            cross,
            further_rows[:, targets],
            alphas,
            alphas / further.factor**2,
        )
        means = torch.cat([means, moments.mean[further.columns]])
    return weights, moments.mean[targets] - means @ weights


def loss(
    moments: Moments,
    features: Tensor,
    targets: Tensor,
    weights: Float[Tensor, "p c k"],
    intercept: Float[Tensor, "p k"],
) -> Float[Tensor, "p k"]:
    """Mean squared error of probes on the rows behind ``moments``."""
    gram = moments.scatter[features][:, features]
    cross = moments.scatter[features][:, targets]
    target_scatter = moments.scatter.diagonal()[targets]
    spread = target_scatter - 2 * (weights * cross).sum(1) + (weights * (gram @ weights)).sum(1)
    shift = moments.mean[targets] - moments.mean[features] @ weights - intercept
    return spread / moments.n + shift.square()


def fit(
    folds: Sequence[Moments],
    features: Tensor,
    targets: Tensor,
    penalties: Sequence[float] = PENALTIES,
    groups: Int[Tensor, " k"] | None = None,
) -> Fit:
    """Choose a penalty per target, or per group of targets, and refit: see :func:`fit_all`."""
    (result,) = fit_all(folds, features, [Problem(targets, groups=groups)], penalties)
    return result


def fit_all(
    folds: Sequence[Moments],
    features: Tensor,
    problems: Sequence[Problem],
    penalties: Sequence[float] = PENALTIES,
    decomposing: Decompose = every_time,
    standardised: bool = False,
) -> list[Fit]:
    """Choose penalties by K-fold cross-validation and refit on all folds, problem by problem.

    ``features`` and the columns of the problems are indices into the moments. All problems share
    one eigenbasis per set of training folds. With ``standardised``, features are divided by their
    standard deviation over the training folds; weights are of the features themselves. Computes on
    the device of the moments. Raises ValueError for fewer than two folds.
    """
    if len(folds) < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, not {len(folds)}")
    all_moments = total(folds)

    def prepared(train: Moments) -> tuple[Moments, Tensor | None]:
        if not standardised:
            return train, None
        factors = 1 / deviations(train, features)
        return scaled(train, features, factors), factors

    units, _ = prepared(all_moments)
    grids = [absolute(penalties, units, features, problem.further) for problem in problems]

    def solutions(chosen: Folds, train: Moments) -> list[tuple[Tensor, Tensor]]:
        train, factors = prepared(train)
        eigenbasis = decomposing(chosen, train.scatter[features][:, features])
        solved = [
            solve(train, features, problem.targets, alphas, problem.further, eigenbasis)
            for problem, alphas in zip(problems, grids, strict=True)
        ]
        if factors is not None:
            for weights, _ in solved:
                weights[:, : len(features)] *= factors[:, None]
        return solved

    losses: list[list[Tensor]] = [[] for _ in problems]
    for held_out, fold in enumerate(folds):
        chosen = others(len(folds), held_out, len(folds) - 1)
        solved = solutions(chosen, total(folds[index] for index in chosen))
        for problem, (weights, intercept), own in zip(problems, solved, losses, strict=True):
            own.append(
                loss(fold, columns_of(features, problem), problem.targets, weights, intercept)
            )
    final = solutions(tuple(range(len(folds))), all_moments)
    return [
        _chosen(torch.stack(own).mean(0), problem.groups, weights, intercept)
        for problem, own, (weights, intercept) in zip(problems, losses, final, strict=True)
    ]


def columns_of(features: Tensor, problem: Problem) -> Tensor:
    """All columns that the probes of a problem read, in the order of their weights."""
    further = problem.further
    return features if further is None else torch.cat([features, further.columns])


def best_of(losses: Float[Tensor, "p k"]) -> Int[Tensor, " k"]:
    """Index of the least loss of every target; nan counts as the worst."""
    return torch.where(losses.isnan(), torch.inf, losses).argmin(0)


def _chosen(
    cv_loss: Float[Tensor, "p k"],
    groups: Int[Tensor, " k"] | None,
    weights: Float[Tensor, "p c k"],
    intercept: Float[Tensor, "p k"],
) -> Fit:
    shared_loss = cv_loss
    if groups is not None:
        shared_loss = _mean_in_groups(cv_loss, groups.to(cv_loss.device))
    chosen = best_of(shared_loss)
    pick = torch.arange(cv_loss.shape[1], device=chosen.device)
    return Fit(weights[chosen, :, pick].mT.contiguous(), intercept[chosen, pick], chosen, cv_loss)


def _mean_in_groups(
    losses: Float[Tensor, "p k"], groups: Int[Tensor, " k"]
) -> Float[Tensor, "p k"]:
    """Replace every target's loss by the mean over its group; nan if one of them is not finite."""
    member = (groups[:, None] == groups[None, :]).double()
    is_finite = losses.isfinite()
    # Zero times infinity is nan, which would reach the other groups.
    means = torch.where(is_finite, losses, 0.0) @ (member / member.sum(0))
    return torch.where((~is_finite).double() @ member > 0, torch.nan, means)
