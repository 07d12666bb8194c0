"""Components give the same outputs on every device, always on the CPU."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engines.components import Components
from engines.decoder import decoder_activations
from engines.load import load

PROMPTS = [
    "a red sphere on a sand floor",
    "",
    "an orange cone",
    "two",
    "one more prompt than a batch holds",
]


def copied(parts: Components) -> Components:
    """A copy that can be moved to another device."""
    own = {name: deepcopy(parts.parts[name]) for name in ("vae", "text_encoder")}
    return replace(parts, parts={**parts.parts, **own})


@pytest.mark.parametrize("kind", ["tiny", "sdxl"])
def test_components_on_another_device_give_the_same(
    kind: str, components: Components, small_models: dict[str, Path], card: SimpleNamespace
) -> None:
    parts = copied(components) if kind == "tiny" else load(small_models[kind])
    latents = torch.randn(3, *parts.latent_shape, generator=torch.Generator().manual_seed(1))
    images = torch.rand(3, 3, *parts.image_size, generator=torch.Generator().manual_seed(2))

    def outputs() -> list[torch.Tensor]:
        return [
            *parts.embed(PROMPTS).tensors.values(),
            parts.decode(latents),
            parts.encode(images),
            *(value.cpu() for value in decoder_activations(parts, latents).values()),
        ]

    before = card.operations
    on_cpu = outputs()
    assert card.operations == before
    parts.send(card.device)
    assert {part.device for name, part in parts.networks.items() if name != "unet"} == {card.device}
    assert parts.denoiser.device == torch.device("cpu")
    before = card.operations
    on_card = outputs()
    assert card.operations > before
    assert all(type(tensor) is torch.Tensor for tensor in on_card)
    assert all(torch.equal(one, other) for one, other in zip(on_cpu, on_card, strict=True))
