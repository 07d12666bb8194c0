"""Exact full-resolution scores of token-level predictions, per probe and image.

In all of them ``prediction`` is p x n x k x t: p probes, n images, k channels, t tokens (blocks) of
equal size. Nothing is upsampled. A score that is undefined for an image (a correlation with a
constant, a precision without positives) is nan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.blocks import Blocks, average_ranks


@dataclass(frozen=True, slots=True)
class Metric:
    """A score with its name and direction."""

    name: str
    compute: Callable[[Tensor, Blocks, Tensor], Tensor]
    """(prediction p n k t, blocks, threshold p) -> p n."""
    higher_is_better: bool

    @property
    def sign(self) -> float:
        """The factor of scores that makes higher better."""
        return sign_of(self.higher_is_better)


def sign_of(higher_is_better: bool) -> float:
    """The factor (1 or -1) of a metric's scores that makes higher better."""
    return 1.0 if higher_is_better else -1.0


def dice_foreground(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Dice of prediction > threshold with the mask; 1 where both are empty."""
    chosen = (prediction > threshold[:, None, None, None])[:, :, 0].double()
    return _dice(chosen, blocks.mean[:, 0])


def dice_background(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Dice of prediction <= threshold with the mask's complement; 1 where both are empty."""
    chosen = (prediction <= threshold[:, None, None, None])[:, :, 0].double()
    return _dice(chosen, 1 - blocks.mean[:, 0])


def _dice(chosen: Float[Tensor, "p n t"], share: Float[Tensor, "n t"]) -> Tensor:
    both = (chosen * share).sum(-1)
    sizes = chosen.sum(-1) + share.sum(-1)
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1e-300), 1.0)


def average_precision(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Average precision, the stepwise area under the precision-recall curve, as in scikit-learn."""
    value, order = prediction[:, :, 0].sort(-1, descending=True)
    share = blocks.mean[:, 0].expand(order.shape).gather(-1, order)
    hits = share.cumsum(-1)
    taken = torch.arange(1, order.shape[-1] + 1, dtype=torch.float64, device=order.device)
    # Equal predictions cross a threshold together, so only the last of a tie counts, with its hits.
    last = torch.ones_like(value, dtype=torch.bool)
    last[..., :-1] = value[..., :-1] != value[..., 1:]
    at_last = torch.where(last, hits, 0.0)
    before = torch.cat(
        [torch.zeros_like(at_last[..., :1]), at_last.cummax(-1).values[..., :-1]], dim=-1
    )
    gained = torch.where(last, hits - before, 0.0)
    positives = hits[..., -1]
    area = (gained * hits / taken).sum(-1) / positives
    return torch.where(positives > 0, area, torch.nan)


def rmse(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Root mean squared error over pixels and channels, in the target's unit."""
    error = (prediction - blocks.mean).square() + blocks.variance
    return error.mean((-1, -2)).sqrt()


def rmse_aligned(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """RMSE after fitting the scale and shift of the prediction to each image."""
    x, y = _centred(prediction[:, :, 0]), _centred(blocks.mean[:, 0])
    scale = ((x * y).mean(-1) / x.square().mean(-1)).nan_to_num(0.0, 0.0, 0.0)
    return ((scale[..., None] * x - y).square().mean(-1) + blocks.within[:, 0]).sqrt()


def pearson(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Pearson's correlation over pixels."""
    return _correlation(prediction[:, :, 0], blocks.mean[:, 0], blocks.total_variance[:, 0])


def spearman(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Spearman's rank correlation over pixels, ties sharing their mean rank.

    A token's average rank r becomes (r - 1/2) k + 1/2 for each of its k pixels.
    """
    ranks = (average_ranks(prediction[:, :, 0]) - 0.5) * blocks.pixels + 0.5
    return _correlation(ranks, blocks.rank[:, 0], blocks.rank_variance[:, 0])


def cosine(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Mean over pixels of the cosine between prediction and target, which has unit norm."""
    unit = prediction / prediction.norm(dim=-2, keepdim=True).clamp(min=1e-12)
    score: Tensor = (unit * blocks.mean).sum(-2).mean(-1)
    return score


def accuracy(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Share of pixels whose class has the largest prediction; 1 or 0 for whole images.

    The target's channels are the indicators of the classes. The first of tied classes is chosen.
    """
    chosen = prediction.argmax(2, keepdim=True)
    share: Tensor = blocks.mean.expand_as(prediction).gather(2, chosen).mean((-1, -2))
    return share


def brier(prediction: Tensor, blocks: Blocks, threshold: Tensor) -> Tensor:
    """Squared error summed over the indicators of the classes, a proper score (Brier 1950)."""
    error = (prediction - blocks.mean).square() + blocks.variance
    score: Tensor = error.sum(-2).mean(-1)
    return score


def _correlation(
    x: Float[Tensor, "p n t"], y: Float[Tensor, "n t"], y_variance: Float[Tensor, " n"]
) -> Tensor:
    x, y = _centred(x), _centred(y)
    scale = (x.square().mean(-1) * y_variance).sqrt()
    correlation = (x * y).mean(-1) / scale
    return torch.where(scale > 0, correlation, torch.nan)


def _centred(x: Float[Tensor, "*b t"]) -> Float[Tensor, "*b t"]:
    """Differences from the mean; exactly zero for a constant, in spite of rounding."""
    constant = (x == x[..., :1]).all(-1, keepdim=True)
    return torch.where(constant, 0.0, x - x.mean(-1, keepdim=True))


DICE = Metric("dice", dice_foreground, True)
DICE_BACKGROUND = Metric("dice_background", dice_background, True)
AVERAGE_PRECISION = Metric("average_precision", average_precision, True)
RMSE = Metric("rmse", rmse, False)
RMSE_ALIGNED = Metric("rmse_aligned", rmse_aligned, False)
PEARSON = Metric("pearson", pearson, True)
SPEARMAN = Metric("spearman", spearman, True)
COSINE = Metric("cosine", cosine, True)
ACCURACY = Metric("accuracy", accuracy, True)
BRIER = Metric("brier", brier, False)
