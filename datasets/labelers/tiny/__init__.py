"""The shipped labeler, trained on rendered scenes: picture -> relative inverse depth, saliency, surface normals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datasets.errors import DatasetError
from datasets.labeler import AS_SHIPPED, Labeler, Sources

if TYPE_CHECKING:
    from datasets.labelers.tiny.read import TinyLabeler

WEIGHTS = Path(__file__).parent / "weights"


def _open(sources: Sources = AS_SHIPPED) -> TinyLabeler:
    if sources.chosen:
        raise DatasetError("the labeler tiny is one network; leave --depth-model, --depth-scale, --saliency-model out")

    from datasets.labelers.tiny.read import TinyLabeler

    return TinyLabeler(WEIGHTS)


LABELER = Labeler(open=_open)
