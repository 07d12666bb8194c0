"""Brightness as depth and saliency: a labeler without a network, for images of untrained models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets.labeler import AS_SHIPPED, Labeler, Sources

if TYPE_CHECKING:
    from datasets.labelers.brightness.read import Brightness


def _open(_: Sources = AS_SHIPPED) -> Brightness:
    from datasets.labelers.brightness.read import Brightness

    return Brightness()


LABELER = Labeler(open=_open)
