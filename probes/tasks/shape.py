"""Shape of the salient object: can a linear map of the mean activation classify all four?"""

from datasets.labels import known
from datasets.scenes import SHAPES
from probes.score import ACCURACY, BRIER
from probes.task import Task, indicators

TASK = Task(
    target=lambda labels: indicators(
        known(labels.shape, "shape of the salient object"), len(SHAPES)
    ),
    metrics=(ACCURACY, BRIER),
    per_image=True,
    classes=SHAPES,
)
