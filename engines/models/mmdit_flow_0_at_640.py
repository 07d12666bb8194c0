"""mmdit_flow_0 after 20 % of its training."""

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(
    source=Path(__file__).parent.parent / "zoo" / "mmdit-flow-0-at-640",
    guidance=3.0,
    labeler="tiny",
)
