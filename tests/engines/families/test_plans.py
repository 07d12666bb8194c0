"""TensorRT for RTX builds a plan of every family, without a card."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.export import exported
from engines.fusion import OPSET
from engines.tensorrt_dialect import Range, build_plan
from tests.engines.families.conftest import Models
from tests.engines.families.reference import TRANSFORMERS, all_taps

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX builds plans without a card")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_plan_has_every_tap_and_a_dynamic_batch(models: Models, cache: Path, kind: str) -> None:
    parts = models(kind).parts
    taps = all_taps(parts)
    model = exported(parts.denoiser, taps, OPSET, cache)
    sizes = {"latents": (2, *parts.latent_shape)}
    sizes |= parts.embed(["a red sphere", "an orange cone"]).shapes
    profile = {name: Range((1, *size[1:]), size, (4, *size[1:])) for name, size in sizes.items()}
    names = ["noise", *(tap.layer for tap in taps)]
    plan = build_plan(model, profile, "SM89", names=names)
    assert [name for name, _ in plan.outputs] == names
    assert all(shape[0] == -1 for _, shape in plan.outputs)
