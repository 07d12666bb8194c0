"""The shipped model: SD v1's topology at 64 x 64 pixels, trained on rendered scenes."""

from pathlib import Path

from engines.engine import ModelSpec

MODEL = ModelSpec(source=Path(__file__).parent / "weights", guidance=3.0, labeler="tiny")
