"""Sana of 1.6 billion parameters for 1024 pixels, from the hub or a local diffusers folder."""

from __future__ import annotations

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source="Efficient-Large-Model/Sana_1600M_1024px_diffusers",
    guidance=4.5,
    labeler="midas",
    architecture=Path(__file__).parent / "architectures" / "sana-1600m-1024",
)
