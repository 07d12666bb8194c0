"""A second training seed of mmdit_flow_0."""

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source=Path(__file__).parent.parent / "zoo" / "mmdit-flow-1", guidance=3.0, labeler="tiny"
)
