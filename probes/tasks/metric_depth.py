"""Distance in metres, as a standardised logarithm: can a linear map read how far things are?"""

from datasets.labels import known
from probes.score import PEARSON, RMSE, RMSE_ALIGNED, SPEARMAN
from probes.task import Task

MEAN, STD = 1.55, 0.68
"""Of ln(distance / m) over the first 1,024 scenes of ``train``: ``python -m datasets.position_share --set train``.

The logarithm weighs relative errors alike, near and far (Eigen, Puhrsch and Fergus 2014): in metres, the wall behind
the scene would make most of the error, and in inverse metres (the task ``depth``) the nearest floor. An error of 1 std
is a factor of 1.97 in distance; the unknown scale of a scene is a shift, which ``rmse_aligned`` gives away.
"""

TASK = Task(
    target=lambda labels: (known(labels.depth_m, "distance in metres").log()[:, None] - MEAN) / STD,
    metrics=(RMSE, RMSE_ALIGNED, SPEARMAN, PEARSON),
    unit="std",
)
