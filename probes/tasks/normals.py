"""Surface normals in camera axes: can a linear map read which way surfaces face?"""

from datasets.labels import known
from probes.score import COSINE, RMSE
from probes.task import Task

TASK = Task(target=lambda labels: known(labels.normals, "surface normals"), metrics=(COSINE, RMSE))
