"""Distance in metres, as a standardised logarithm: can a linear map read how far things are?"""

from datasets.labels import known
from probes.score import PEARSON, RMSE, RMSE_ALIGNED, SPEARMAN
from probes.task import Task

MEAN, STD = 1.55, 0.68
"""Of ln(distance / m) over the first 1,024 scenes of ``train``.

Computed by ``python -m datasets.position_share --set train``. The logarithm weighs relative errors
equally, near and far (Eigen, Puhrsch and Fergus 2014). In metres, the wall behind the scene would
dominate the error; in inverse metres (the task ``depth``), the nearest floor would. An error of
1 std is a factor of 1.97 in distance. The unknown scale of a scene is a shift, which
``rmse_aligned`` removes.
"""

TASK = Task(
    target=lambda labels: (known(labels.depth_m, "distance in metres").log()[:, None] - MEAN) / STD,
    metrics=(RMSE, RMSE_ALIGNED, SPEARMAN, PEARSON),
    unit="std",
)
