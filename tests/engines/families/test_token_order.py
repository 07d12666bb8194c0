"""Image tokens lie in raster order, on grids that are not square."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.engine import Tap
from tests.engines.families.conftest import Model, Models
from tests.engines.families.reference import TRANSFORMERS, UNETS, all_taps

ROWS, COLUMNS = 4, 6


@pytest.fixture
def model(models: Models, request: pytest.FixtureRequest) -> Model:
    """A model for images of 4 by 6 tokens."""
    whole = models(request.param)
    pixels = whole.parts.pixels_per_latent * whole.parts.family.patch(whole.parts.denoiser.config)
    return replace(whole, parts=whole.parts.sized(ROWS * pixels, COLUMNS * pixels))


def taps_for(model: Model, taps: tuple[Tap, ...], latents: Tensor) -> dict[str, Tensor]:
    engine = TorchEager(model.parts.denoiser, taps)
    return engine(latents, 500.0, model.conditioning[:1].expand(len(latents))).taps


def noise(parts: Components, rows: int = 1) -> Tensor:
    return torch.randn(rows, *parts.latent_shape, generator=torch.Generator().manual_seed(0))


@contextmanager
def without_positions(module: Any) -> Iterator[None]:
    """Give every token the same position, so that only the order of the tokens is left."""

    def nowhere(embedding: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            # FLUX's are cosines and sines that turn queries and keys.
            return torch.ones_like(output[0]), torch.zeros_like(output[1])
        return embedding.proj(inputs[0]).flatten(2).mT

    # Sana's tokens have no positions but those of the convolutions in its feed-forwards.
    with ExitStack() as stack:
        if hasattr(module, "pos_embed"):
            stack.callback(module.pos_embed.register_forward_hook(nowhere).remove)
        yield


@pytest.mark.parametrize("model", TRANSFORMERS, indirect=True)
def test_a_patch_of_the_latent_is_the_token_at_its_row_and_column(model: Model) -> None:
    """Queries of the first block depend on their own token alone."""
    parts = model.parts
    first = parts.taps("query")[0]
    patch = parts.family.patch(parts.denoiser.config)
    latents = noise(parts).repeat(ROWS * COLUMNS + 1, 1, 1, 1)
    for token in range(ROWS * COLUMNS):
        row, column = divmod(token, COLUMNS)
        there = (slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch))
        latents[token][:, there[0], there[1]] += 1.0
    queries = taps_for(model, (first,), latents)[first.layer]
    moved = (queries[:-1] - queries[-1]).abs().amax(2) > 1e-4
    assert torch.equal(moved, torch.eye(ROWS * COLUMNS, dtype=torch.bool))


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("model", TRANSFORMERS, indirect=True)
def test_every_tap_moves_with_the_latent(model: Model, axis: int) -> None:
    """Without positions, latents shifted by a patch give tokens shifted by a row or a column."""
    parts = model.parts
    taps = tuple(tap for tap in all_taps(parts) if not tap.text)
    if parts.family.title == "Sana":
        # Its feed-forwards pad at the borders.
        taps = tuple(tap for tap in taps if _before_feed_forward(tap))
    patch = parts.family.patch(parts.denoiser.config)
    latents = noise(parts)
    shifted = latents.roll(patch, dims=axis + 1)
    with without_positions(parts.denoiser.module):
        plain, moved = taps_for(model, taps, latents), taps_for(model, taps, shifted)
    for layer, tokens in plain.items():
        grid = tokens.unflatten(1, (ROWS, COLUMNS))
        expected = grid.roll(1, dims=axis).flatten(1, 2)
        assert torch.allclose(moved[layer], expected, rtol=0, atol=1e-4 * float(tokens.abs().max()))
        # A grid in another order would not move so.
        assert float((moved[layer] - tokens).abs().max()) > 1e-2 * float(tokens.abs().max())


def _before_feed_forward(tap: Tap) -> bool:
    return tap.path.startswith("transformer_blocks.0.") and not tap.path.endswith("ff")


@pytest.mark.parametrize("kind", UNETS)
def test_tokens_of_a_unet_change_most_near_the_changed_latent(models: Models, kind: str) -> None:
    model = models(kind)
    parts = model.parts
    side = parts.latent_shape[1] // parts.family.patch(parts.denoiser.config)
    pixels = parts.pixels_per_latent * parts.family.patch(parts.denoiser.config)
    parts = parts.sized(side * pixels, (side + 1) * pixels)
    model = replace(model, parts=parts)
    rows, columns = parts.latent_shape[1:]
    first = parts.taps("convolution")[0]
    places = [(1, 2), (rows - 2, 3), (2, columns - 2)]
    latents = noise(parts).repeat(len(places) + 1, 1, 1, 1)
    for item, (row, column) in enumerate(places):
        latents[item, :, row, column] += 3.0
    tokens = taps_for(model, (first,), latents)[first.layer]
    moved = (tokens[:-1] - tokens[-1]).norm(dim=2).argmax(1)
    for token, (row, column) in zip(moved.tolist(), places, strict=True):
        # Three convolutions lie between.
        assert max(abs(token // columns - row), abs(token % columns - column)) <= 3
