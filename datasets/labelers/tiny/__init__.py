"""The shipped labeler, trained on rendered scenes: picture -> relative inverse depth, saliency, surface normals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datasets.errors import DatasetError
from datasets.labeler import AS_SHIPPED, Labeler, Sources

if TYPE_CHECKING:
    from datasets.labelers.tiny.read import TinyLabeler

WEIGHTS = Path(__file__).parent / "weights"
SHA256 = "8e8f676cc5d090030c56a8be5f1b805535a1bbbf79fe3b071a781a4a5100357e"
"""Of the shipped ``labeler.safetensors``; training prints that of a new one."""


def _open(sources: Sources = AS_SHIPPED) -> TinyLabeler:
    if sources.chosen:
        raise DatasetError("the labeler tiny is one network; leave --depth-model, --depth-scale, --saliency-model out")

    from datasets.labelers.tiny.read import TinyLabeler

    return TinyLabeler(WEIGHTS, SHA256)


LABELER = Labeler(open=_open)
