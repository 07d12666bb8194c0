"""Material of the floor: can a linear map of the mean activation classify all five?"""

from datasets.labels import known
from datasets.scenes import FLOORS
from probes.score import ACCURACY, BRIER
from probes.task import Task, indicators

TASK = Task(
    target=lambda labels: indicators(known(labels.floor, "material of the floor"), len(FLOORS)),
    metrics=(ACCURACY, BRIER),
    per_image=True,
    classes=tuple(FLOORS),
)
