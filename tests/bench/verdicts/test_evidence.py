"""Runs that claims need, on models that cannot have all baselines."""

from __future__ import annotations

import pytest

from bench.config import Config
from bench.verdicts.evidence import possible


@pytest.mark.parametrize(
    ("model", "kept"), [("tiny", ("vae", "convolution")), ("mmdit_flow_0", ("vae",))]
)
def test_a_model_without_convolutions_runs_without_their_baseline(
    model: str, kept: tuple[str, ...]
) -> None:
    asked = Config(model=model, baselines=("vae", "convolution"))
    assert possible(asked).baselines == kept


def test_other_runs_are_left_as_they_are() -> None:
    asked = Config(model="mmdit_flow_0", baselines=("decoded",))
    assert possible(asked) is asked
