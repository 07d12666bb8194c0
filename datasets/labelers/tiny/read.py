"""Open the shipped labeler and label images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from datasets.errors import DatasetError
from datasets.labelers.tiny.network import WORDS, Reading, SceneNet
from datasets.labels import DisparityScale, Labels

BATCH = 8
"""Images per forward pass, padded to this number, so that no batch size changes a bit."""


class TinyLabeler:
    """The shipped labeler."""

    def __init__(self, folder: Path, sha256: str | None = None) -> None:
        """Load the weights in ``folder``.

        Raises DatasetError if they are damaged or their checksum is not ``sha256``.
        """
        self.net = SceneNet().eval().requires_grad_(False)
        try:
            stored = (folder / "labeler.safetensors").read_bytes()
            digest = hashlib.sha256(stored).hexdigest()
            if sha256 is not None and digest != sha256:
                raise ValueError(
                    f"labeler.safetensors has the SHA-256 {digest[:12]}..., "
                    f"expected {sha256[:12]}..."
                )
            weights = load(stored)
            self.net.load_state_dict({name: value.float() for name, value in weights.items()})
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            self.scale = DisparityScale(
                float(config["disparity_mean"]), float(config["disparity_std"])
            )
            self.fingerprint = f"tiny-{digest[:20]}-{self.scale}"
        except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            line = str(error).splitlines()[0]
            raise DatasetError(
                f"cannot load the labeler in {folder}: {line}; reinstall or retrain it"
            ) from error

    @torch.inference_mode()
    def read(self, images: Float[Tensor, "n 3 h w"]) -> Reading:
        """The network's outputs for up to ``BATCH`` images."""
        short = BATCH - len(images)
        if short > 0:
            images = torch.cat([images, images[-1:].expand(short, -1, -1, -1)])
        padded = self.net(images)
        count = BATCH - max(short, 0)
        return Reading(
            padded.disparity[:count],
            padded.saliency_logit[:count],
            padded.normals[:count],
            {name: logits[:count] for name, logits in padded.words.items()},
        )

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Label images in 0..1. Raises DatasetError for sides that are no multiples of 4."""
        height, width = images.shape[-2:]
        if height % 4 or width % 4:
            raise DatasetError(
                f"the labeler tiny takes images whose sides are multiples of 4, not {height} x "
                f"{width} pixels; choose another --labeler, or other images"
            )
        readings = [
            self.read(images[start : start + BATCH]) for start in range(0, len(images), BATCH)
        ]
        words = {
            name: torch.cat([reading.words[name] for reading in readings]).argmax(1)
            for name in WORDS
        }
        return Labels(
            disparity=torch.cat([reading.disparity for reading in readings]),
            saliency=torch.cat([reading.saliency_logit for reading in readings]) > 0,
            normals=torch.cat([reading.normals for reading in readings]),
            color=words["color"],
            shape=words["shape"],
            light=words["light"],
            floor=words["floor"],
            wall=words["wall"],
        )
