"""A small transformer of PixArt's class, noise prediction, on the same scenes."""

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source=Path(__file__).parent.parent / "zoo" / "dit-noise-0", guidance=3.0, labeler="tiny"
)
