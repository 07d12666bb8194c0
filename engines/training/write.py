"""Write a trained network as a diffusers folder."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from engines.training.recipes import Network


def write(network: Network, out: Path) -> None:
    """Write the diffusers folder: text encoders in single precision, all else in half."""
    pipeline = copy.deepcopy(network).cpu().eval().pipeline()
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            part.float() if name.startswith("text_encoder") else part.half()
    pipeline.save_pretrained(out, safe_serialization=True)
