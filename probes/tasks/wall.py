"""Colour of the wall: can a linear map of the mean activation classify all five?"""

from datasets.labels import known
from datasets.scenes import WALLS
from probes.score import ACCURACY, BRIER
from probes.task import Task, indicators

TASK = Task(
    target=lambda labels: indicators(known(labels.wall, "colour of the wall"), len(WALLS)),
    metrics=(ACCURACY, BRIER),
    per_image=True,
    classes=tuple(WALLS),
)
