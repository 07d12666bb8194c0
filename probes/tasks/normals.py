"""Surface normals in camera axes: can a linear map read which way surfaces face?"""

from jaxtyping import Float
from torch import Tensor

from datasets.errors import DatasetError
from datasets.labels import Labels
from probes.score import COSINE, RMSE
from probes.task import Task


def _target(labels: Labels) -> Float[Tensor, "n 3 h w"]:
    if labels.normals is None:
        raise DatasetError("this labeler gives no surface normals; use --labeler tiny, or --source rendered")
    return labels.normals


TASK = Task(target=_target, metrics=(COSINE, RMSE))
