"""Colour of the salient object: can a linear map of the mean activation classify all eight?"""

from datasets.labels import known
from datasets.scenes import COLORS
from probes.score import ACCURACY, BRIER
from probes.task import Task, indicators

TASK = Task(
    target=lambda labels: indicators(
        known(labels.color, "colour of the salient object"), len(COLORS)
    ),
    metrics=(ACCURACY, BRIER),
    per_image=True,
    classes=tuple(COLORS),
)
