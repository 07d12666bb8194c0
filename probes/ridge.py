"""Ridge regression from moments: every penalty and every target from one eigendecomposition.

With X'X and X'y centred, the minimiser of |y - X w - b|^2 + a |w|^2 is

    w = (X'X + a I)^-1 X'y = Q (L + a)^-1 Q' X'y,    b = mean(y) - mean(x)'w,    X'X = Q L Q'

and its squared error on other rows, given only their moments (centred on their own means), is

    |y - X w - b|^2 = y'y - 2 w'X'y + w'X'X w + n (mean(y) - mean(x)'w - b)^2

so the penalty is chosen by exact K-fold cross-validation without a second pass over the rows. The
loss per fold and the mean over folds are those of scikit-learn's ``GridSearchCV`` over
``Ridge(alpha=a)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.moments import Moments, total

PENALTIES: tuple[float, ...] = tuple(10.0 ** (-6 + 8 * i / 19) for i in range(20))
"""Relative penalties, 1e-6 to 1e2; :func:`absolute` multiplies them by the mean diagonal of X'X."""


def absolute(penalties: Sequence[float], moments: Moments, features: Tensor) -> Float[Tensor, " p"]:
    """Relative penalties in the units of the features' scatter."""
    scale = moments.scatter.diagonal()[features].mean().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.tensor(penalties, dtype=torch.float64).to(scale.device) * scale


def others(folds: Sequence[Moments], held_out: int, count: int) -> list[Moments]:
    """The ``count`` folds after the one that is held out, where the first follows the last.

    They are added up, as subtracting the held-out fold from the total would cancel digits.
    """
    return [folds[index] for index in sorted((held_out + 1 + k) % len(folds) for k in range(count))]


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
    moments: Moments, features: Tensor, targets: Tensor, alphas: Float[Tensor, " p"]
) -> tuple[Float[Tensor, "p c k"], Float[Tensor, "p k"]]:
    """Weights and intercepts of the target columns on the feature columns for every penalty."""
    gram = moments.scatter[features][:, features]
    cross = moments.scatter[features][:, targets]
    spectrum, basis = torch.linalg.eigh(gram)
    rotated = basis.mT @ cross
    # Rounding can make an eigenvalue negative and cancel a small penalty.
    shrunk = rotated[None] / (spectrum.clamp(min=0)[None, :, None] + alphas[:, None, None])
    weights = basis @ shrunk
    return weights, moments.mean[targets] - moments.mean[features] @ weights


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
    """Choose a penalty per target by K-fold cross-validation and refit on all folds.

    ``features`` and ``targets`` are column indices into the moments. ``groups`` assigns a group
    number to each target; the targets of a group share the penalty with the least mean loss. By
    default every target is a group. Computes on the device of the moments. Raises ValueError for
    fewer than two folds.
    """
    if len(folds) < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, not {len(folds)}")
    all_moments = total(folds)
    alphas = absolute(penalties, all_moments, features)
    losses = []
    for held_out, fold in enumerate(folds):
        train = total(others(folds, held_out, len(folds) - 1))
        weights, intercept = solve(train, features, targets, alphas)
        losses.append(loss(fold, features, targets, weights, intercept))
    cv_loss = torch.stack(losses).mean(0)
    shared_loss = cv_loss
    if groups is not None:
        shared_loss = _mean_in_groups(cv_loss, groups.to(cv_loss.device))
    chosen = shared_loss.argmin(0)
    weights, intercept = solve(all_moments, features, targets, alphas)
    pick = torch.arange(len(targets), device=chosen.device)
    return Fit(weights[chosen, :, pick].mT.contiguous(), intercept[chosen, pick], chosen, cv_loss)


def _mean_in_groups(
    losses: Float[Tensor, "p k"], groups: Int[Tensor, " k"]
) -> Float[Tensor, "p k"]:
    """Replace every target's loss by the mean over its group."""
    member = (groups[:, None] == groups[None, :]).double()
    return losses @ (member / member.sum(0))
