"""A labeler of photographs, made of a depth network and a saliency network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.errors import DatasetError
from datasets.label_cache import as_bytes
from datasets.labeler import Sources
from datasets.labelers.midas.depth import DPT_LARGE, DptDepth
from datasets.labelers.midas.saliency import OnnxSaliency
from datasets.labels import DisparityScale, Labels


@dataclass(frozen=True, slots=True)
class Photographs:
    """Labels each image alone, so that no batch changes a bit, and in 8 bits, as in a file."""

    depth: DptDepth
    saliency: OnnxSaliency

    @property
    def scale(self) -> DisparityScale:
        """Scale of the depth network's inverse depth."""
        return self.depth.scale

    @property
    def fingerprint(self) -> str:
        """Fingerprints of both networks, and the scale."""
        return f"midas-{self.depth.fingerprint}-{self.saliency.fingerprint}-{self.scale}"

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Label images in 0..1."""
        rounded = (as_bytes(images).to(torch.float32) / 255).split(1)
        raw = torch.cat([self.depth(image) for image in rounded])
        mask = torch.cat([self.saliency(image) for image in rounded])
        return Labels((raw - self.scale.mean) / self.scale.std, mask)


def open_photographs(sources: Sources) -> Photographs:
    """Load both networks. Raises DatasetError if one is missing."""
    if sources.saliency_model is None:
        raise DatasetError(
            "the labeler midas needs a salient-object network and none is fetched: export one "
            "(TRACER for the paper's labels) to ONNX and name the file with --saliency-model"
        )
    # The small file first, so that its errors appear before a large download.
    saliency = OnnxSaliency(
        sources.saliency_model, sources.saliency_size, sources.saliency_preparation
    )
    return Photographs(DptDepth(sources.depth_model or DPT_LARGE, sources.depth_scale), saliency)
