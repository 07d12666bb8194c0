"""Row and column of every pixel: can a linear map read where in the image a token lies?"""

import torch

from datasets.labels import Labels
from probes.score import RMSE
from probes.task import Task


def _coordinates(labels: Labels) -> torch.Tensor:
    """The same map for every image: row, then column, each with mean 0 and variance 1."""
    n, h, w = labels.disparity.shape
    row, column = (torch.arange(size, dtype=torch.float64) for size in (h, w))
    maps = torch.stack(
        [_standardised(row)[:, None].expand(h, w), _standardised(column)[None].expand(h, w)]
    )
    return maps.expand(n, -1, -1, -1)


def _standardised(values: torch.Tensor) -> torch.Tensor:
    return (values - values.mean()) / values.std(correction=0)


TASK = Task(target=_coordinates, metrics=(RMSE,))
