"""Relative inverse depth, standardised: can a linear map read how near things are?"""

from probes.score import PEARSON, RMSE, RMSE_ALIGNED, SPEARMAN
from probes.task import Task

TASK = Task(
    target=lambda labels: labels.disparity[:, None],
    metrics=(RMSE, RMSE_ALIGNED, SPEARMAN, PEARSON),
    unit="std",
    last_edited_step=3,
    edits_all_layers=True,
)
