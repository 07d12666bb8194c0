"""Shapes without weights: they are those of a real call, and what does not fit is named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers.models.autoencoders.vae import DecoderOutput

from engines.backends.torch_eager import TorchEager
from engines.errors import EngineError
from engines.shapes import tap_shapes
from extract.parts_fit import check_parts_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.components import Components
    from engines.engine import Tap


def test_shapes_are_those_of_a_real_call(components: Components, taps: Sequence[Tap]) -> None:
    words = components.family.words(components)
    row, conditioning = components.denoiser.example(1, words)
    prediction = TorchEager(components.denoiser, taps)(row, 1.0, conditioning)
    real = {layer: tuple(value.shape[1:]) for layer, value in prediction.taps.items()}
    assert dict(tap_shapes(components.denoiser, taps, words)) == real


def test_the_shipped_model_fits(components: Components, taps: Sequence[Tap]) -> None:
    check_parts_fit(components, taps)


def test_a_layer_without_a_grid_is_named(components: Components, taps: Sequence[Tap]) -> None:
    odd = replace(components, latent_shape=(4, 10, 14))
    with pytest.raises(EngineError, match=r"the layer \S+ cannot be read per token: 12 tokens"):
        check_parts_fit(odd, taps)


def test_an_autoencoder_of_another_factor_is_named(
    components: Components, taps: Sequence[Tap]
) -> None:
    from diffusers import AutoencoderKL

    class Halved(AutoencoderKL):
        def decode(self, z: torch.Tensor) -> DecoderOutput:
            return DecoderOutput(super().decode(z).sample[..., ::2, ::2])

    other = Halved.from_config(components.vae.config)
    parts = replace(components, parts={**components.parts, "vae": other})
    with pytest.raises(EngineError, match="makes images of 3 x 32 x 32 from latents of 16 x 16"):
        check_parts_fit(parts, taps)


def test_a_denoiser_of_other_channels_is_named(components: Components, taps: Sequence[Tap]) -> None:
    parts = replace(components, latent_shape=(3, 16, 16))
    with pytest.raises(EngineError, match="no latents of 16 x 16"):
        check_parts_fit(parts, taps)


@pytest.mark.parametrize("kind", [NotImplementedError, TypeError, AttributeError, IndexError])
def test_a_fault_of_the_code_is_not_taken_for_sizes_that_do_not_fit(
    kind: type[Exception],
    components: Components,
    taps: Sequence[Tap],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(*_: object) -> None:
        raise kind("a fault")

    monkeypatch.setattr("extract.parts_fit.tap_shapes", faulty)
    with pytest.raises(kind, match="a fault"):
        check_parts_fit(components, taps)
