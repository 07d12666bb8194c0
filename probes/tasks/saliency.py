"""Foreground or background: can a linear map read which pixels are the salient object?"""

from probes.score import AVERAGE_PRECISION, DICE, DICE_BACKGROUND
from probes.task import Task

TASK = Task(
    target=lambda labels: labels.saliency[:, None].double(),
    metrics=(DICE, DICE_BACKGROUND, AVERAGE_PRECISION),
    thresholded=True,
)
