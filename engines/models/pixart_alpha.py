"""PixArt-alpha for 1024 pixels, from the hub or a local diffusers folder."""

from __future__ import annotations

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source="PixArt-alpha/PixArt-XL-2-1024-MS",
    guidance=4.5,
    labeler="midas",
    architecture=Path(__file__).parent / "architectures" / "pixart-alpha-1024",
)
