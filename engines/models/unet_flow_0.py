"""The shipped model's UNet trained by rectified flow in place of noise prediction."""

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source=Path(__file__).parent.parent / "zoo" / "unet-flow-0", guidance=3.0, labeler="tiny"
)
