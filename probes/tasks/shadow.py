"""Shadow or light: can a linear map read which pixels no direct light reaches?"""

from datasets.labels import known
from probes.score import AVERAGE_PRECISION, DICE, DICE_BACKGROUND
from probes.task import Task

TASK = Task(
    target=lambda labels: known(labels.shadow, "shadows")[:, None].double(),
    metrics=(DICE, DICE_BACKGROUND, AVERAGE_PRECISION),
    thresholded=True,
)
