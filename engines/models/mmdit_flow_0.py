"""A small transformer of Stable Diffusion 3's class, rectified flow, on the same scenes."""

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source=Path(__file__).parent.parent / "zoo" / "mmdit-flow-0", guidance=3.0, labeler="tiny"
)
