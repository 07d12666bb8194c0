"""The shipped labeler, trained on rendered scenes: picture -> relative inverse depth, saliency, surface normals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datasets.labeler import Labeler

if TYPE_CHECKING:
    from datasets.labelers.tiny.read import TinyLabeler

WEIGHTS = Path(__file__).parent / "weights"


def _open() -> TinyLabeler:
    from datasets.labelers.tiny.read import TinyLabeler

    return TinyLabeler(WEIGHTS)


LABELER = Labeler(open=_open)
