"""A second training seed of the shipped model: the same networks, scenes, steps and objective."""

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source=Path(__file__).parent.parent / "zoo" / "unet-noise-1", guidance=3.0, labeler="tiny"
)
