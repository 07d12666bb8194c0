"""Editing at a tap changes what follows it, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.editing import editing
from engines.engine import Prediction, Tap
from engines.errors import EngineError
from tests.engines.families.conftest import Model, Models
from tests.engines.families.reference import TRANSFORMERS, UNETS, all_taps

KINDS = [*TRANSFORMERS, *UNETS]


def editable(parts: Components) -> tuple[Tap, ...]:
    return tuple(tap for tap in all_taps(parts) if not tap.text and not tap.minus)


def predicted(model: Model, taps: tuple[Tap, ...]) -> Prediction:
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *model.parts.latent_shape, generator=draw)
    return TorchEager(model.parts.denoiser, taps)(latents, 500.0, model.conditioning)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_that_changes_nothing_changes_no_bit(models: Models, kind: str) -> None:
    model = models(kind)
    parts = model.parts
    taps = editable(parts)
    plain = predicted(model, taps)
    seen: list[str] = []
    with editing(parts.denoiser, taps, lambda layer, x: seen.append(layer) or x.clone()):
        edited = predicted(model, taps)
    assert sorted(seen) == sorted(tap.layer for tap in taps)
    assert torch.equal(edited.noise, plain.noise)
    assert all(torch.equal(edited.taps[layer], plain.taps[layer]) for layer in plain.taps)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_of_a_token_leaves_all_before_it_as_it_was(models: Models, kind: str) -> None:
    """The order of computation is that in which hooks see the taps."""
    model = models(kind)
    parts = model.parts
    taps = editable(parts)
    plain = predicted(model, taps)
    order: list[str] = []
    with editing(parts.denoiser, taps, lambda layer, x: order.append(layer) or x):
        predicted(model, taps)
    attention = [tap for tap in parts.taps() if tap.layer in order]
    for tap in (attention[0], attention[len(attention) // 2], attention[-1]):

        def push(_layer: str, tokens: Tensor) -> Tensor:
            pushed = tokens.clone()
            pushed[1, 3] += 1.0
            return pushed

        with editing(parts.denoiser, [tap], push):
            edited = predicted(model, taps)
        before = order[: order.index(tap.layer)]
        assert all(torch.equal(edited.taps[layer], plain.taps[layer]) for layer in before)
        changed = (edited.taps[tap.layer] - plain.taps[tap.layer]).abs().amax(2)
        expected = torch.zeros_like(changed)
        expected[1, 3] = 1.0
        assert torch.allclose(changed, expected, rtol=0, atol=1e-5)
        # The other image of the batch is not touched.
        assert torch.equal(edited.noise[0], plain.noise[0])
        assert float((edited.noise[1] - plain.noise[1]).abs().max()) > 1e-6


@pytest.mark.parametrize("kind", ["flux-dev", "flux-schnell"])
def test_an_edit_in_a_single_block_leaves_the_tokens_of_the_text(models: Models, kind: str) -> None:
    model = models(kind)
    parts = model.parts
    tap = parts.taps()[-2]
    assert tap.layer == "single0"
    (text,) = (text for text in parts.taps("text") if text.layer == "text.single0")
    plain = predicted(model, (text,))
    with editing(parts.denoiser, [tap], lambda _layer, x: x + 1.0):
        edited = predicted(model, (text,))
    assert torch.equal(edited.taps[text.layer], plain.taps[text.layer])
    assert not torch.equal(edited.noise, plain.noise)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_means_and_differences_are_not_edited(models: Models, kind: str) -> None:
    model = models(kind)
    parts = model.parts
    refused = [tap for tap in all_taps(parts) if tap.text or tap.minus]
    assert refused
    for tap in refused:
        with (
            pytest.raises(EngineError, match="cannot be edited; edit attention") as caught,
            editing(parts.denoiser, [tap], lambda _layer, x: x),
        ):
            predicted(model, ())
        assert str(caught.value).startswith(tap.layer)
