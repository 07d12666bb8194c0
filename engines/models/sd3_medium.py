"""Stable Diffusion 3 Medium, from the hub or a local diffusers folder."""

from __future__ import annotations

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source="stabilityai/stable-diffusion-3-medium-diffusers",
    guidance=7.0,
    labeler="midas",
    architecture=Path(__file__).parent / "architectures" / "sd3-medium",
)
