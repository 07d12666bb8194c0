"""Side of the light, left or right: can a linear map of the mean activation tell them apart?"""

from datasets.labels import known
from datasets.scenes import LIGHTS
from probes.score import ACCURACY, BRIER
from probes.task import Task, indicators

TASK = Task(
    target=lambda labels: indicators(known(labels.light, "side of the light"), len(LIGHTS)),
    metrics=(ACCURACY, BRIER),
    per_image=True,
    classes=LIGHTS,
)
