"""Edited images of a model with further conditioning inputs (SDXL)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.interventions.arms import EDIT, Arm
from bench.interventions.generator import ImageGenerator
from datasets.grid import Grid
from datasets.items import Item
from engines.backends.torch_eager import TorchEager
from engines.load import load


def test_an_edit_that_changes_nothing_generates_the_same_images_with_sdxl(
    small_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = load(small_models["sdxl"])
    taps = parts.taps()
    edited_layers: list[str] = []

    def unchanged(*_arguments: object) -> Any:
        def edit(layer: str, output: Tensor) -> Tensor:
            edited_layers.append(layer)
            return output

        return edit

    monkeypatch.setattr("bench.interventions.generator.edit_at", unchanged)
    config = SimpleNamespace(batch=3, sampler_steps=3)
    study: Any = SimpleNamespace(components=parts, taps=taps, config=config, guidance=2.0)
    generator = ImageGenerator(study, TorchEager(parts.denoiser, taps))
    items = [Item("a", "a red sphere", 1, "test"), Item("b", "a cone", 2, "test")]
    originals = generator.originals(items)
    arm = Arm("matched", EDIT, 1.0, (taps[0].layer, taps[-1].layer), (1,))
    probes: Any = SimpleNamespace(targets=lambda _arm, _target: {Grid(2, 2): None})
    edited = generator.edited(arm, probes, originals, torch.zeros(2, 1, 8, 8))
    assert edited_layers == [taps[0].layer, taps[-1].layer]
    torch.testing.assert_close(edited, originals.images, rtol=0, atol=1e-4)
    assert not torch.allclose(edited[0], edited[1], atol=1e-2)
