"""Read photographs: a depth network and a salient-object network make one labeler."""

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
    """Both networks: shown one image at a time, so that no batch changes a bit, in 8 bits, as a file holds it."""

    depth: DptDepth
    saliency: OnnxSaliency

    @property
    def scale(self) -> DisparityScale:
        """What standardises the depth network's inverse depth."""
        return self.depth.scale

    @property
    def fingerprint(self) -> str:
        """Both networks, their sizes and the scale."""
        return f"midas-{self.depth.fingerprint}-{self.saliency.fingerprint}-{self.scale}"

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Labels of images in 0..1."""
        shown = as_bytes(images).to(torch.float32) / 255
        raw = torch.cat([self.depth(image) for image in shown.split(1)])
        mask = torch.cat([self.saliency(image) for image in shown.split(1)])
        return Labels((raw - self.scale.mean) / self.scale.std, mask)


def open_photographs(sources: Sources) -> Photographs:
    """Load both networks. Raises DatasetError when one is missing."""
    if sources.saliency_model is None:
        raise DatasetError(
            "the labeler midas needs a salient-object network and none is fetched: export one (TRACER for the paper's "
            "labels) to ONNX and name the file with --saliency-model"
        )
    # The small file first: a mistake in it should not wait for a large download.
    saliency = OnnxSaliency(sources.saliency_model, sources.saliency_size)
    return Photographs(DptDepth(sources.depth_model or DPT_LARGE, sources.depth_scale), saliency)
