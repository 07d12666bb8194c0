"""FLUX.1-dev, guidance embedded, from the hub or a local diffusers folder."""

from __future__ import annotations

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source="black-forest-labs/FLUX.1-dev",
    guidance=3.5,
    labeler="midas",
    architecture=Path(__file__).parent / "architectures" / "flux-1-dev",
)
