"""Photographs: depth by MiDaS DPT-Large, saliency by the ONNX file that --saliency-model names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets.labeler import AS_SHIPPED, Labeler, Sources

if TYPE_CHECKING:
    from datasets.labeler import Reader


def _open(sources: Sources = AS_SHIPPED) -> Reader:
    from datasets.label_cache import CachedReader
    from datasets.labelers.midas.read import open_photographs

    reader = open_photographs(sources)
    return reader if sources.cache is None else CachedReader(reader, sources.cache)


LABELER = Labeler(open=_open, takes_networks=True)
