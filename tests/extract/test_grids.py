"""Images that are not square: the grid of every layer's tokens, as reducers are told it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from datasets.grid import WHOLE, Grid
from datasets.labels import Labels
from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.conditioning import Conditioning
from engines.decoder import decoder_activations, pooled_size
from engines.engine import Prediction
from engines.errors import EngineError
from extract.sources import Start, conditional, convolution, decoded, decoder, latent, patches, text
from extract.stream import BlockInput, RecordedModel, stream
from extract.trajectory import initial_noise
from tests.extract.recording import PROMPTS, SEEDS, label

LAYERS = {"down0.0": Grid(16, 24), "down1.1": Grid(8, 12), "mid.0": Grid(2, 3)}
CONVOLUTIONS = {"mid.1": Grid(2, 3), "up3.2": Grid(16, 24)}


@pytest.fixture(scope="module")
def wide(components: Components) -> Components:
    return components.sized(64, 96)


class Grids:
    """The grid and tokens of every layer."""

    def __init__(self) -> None:
        self.grids: dict[tuple[str, str], Grid] = {}
        self.tokens: dict[tuple[str, str], int] = {}

    def update(self, step: int, network: str, layer: str, activation: Tensor, grid: Grid) -> None:
        self.grids[network, layer] = grid
        self.tokens[network, layer] = activation.shape[1]

    def finish(self, labels: Labels) -> None:
        assert labels.disparity.shape == (1, 64, 96)


def test_reducers_get_the_grid_of_every_layer(wide: Components) -> None:
    taps = (*wide.taps(), *wide.convolutions)
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for layer in LAYERS:
        # The block that holds the attention returns rows and columns.
        (tap,) = (tap for tap in wide.taps() if tap.layer == layer)
        block: nn.Module = wide.denoiser.module.get_submodule(tap.path.split(".transformer")[0])

        def hook(_m: nn.Module, _i: object, output: object, layer: str = layer) -> None:
            tensor = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
            assert isinstance(tensor, Tensor)
            shapes[layer] = tuple(tensor.shape[-2:])

        handles.append(block.register_forward_hook(hook))

    def maps(images: Tensor) -> Tensor:
        return images.mean(1).flatten(1)[..., None]

    sources = {
        "input": latent(),
        "trained": conditional(LAYERS),
        "convolution": convolution(CONVOLUTIONS),
        "text": text(),
        "vae": decoder(wide),
        "decoded": decoded(wide, maps),
    }
    reducer = Grids()
    recorded = RecordedModel(wide, TorchEager(wide.denoiser, taps), sources, 2, 3.0, 2)
    stream(recorded, BlockInput(PROMPTS[:1], SEEDS[:1]), [reducer], (0,), label)
    for handle in handles:
        handle.remove()
    assert shapes == {layer: grid.shape for layer, grid in LAYERS.items()}
    expected = {("trained", layer): grid for layer, grid in LAYERS.items()}
    expected |= {("convolution", layer): grid for layer, grid in CONVOLUTIONS.items()}
    expected |= {("input", "latent"): Grid(16, 24), ("text", "pooled"): Grid(8, 12)}
    expected |= {("decoded", layer): Grid(64, 96) for layer in ("latent", "predicted")}
    expected |= {("vae", "mid"): Grid(16, 24), ("vae", "up0"): Grid(32, 48)}
    # 96 columns are more than the most, so these are averaged.
    expected |= {("vae", layer): Grid(32, 48) for layer in ("up1", "up2")}
    assert reducer.grids == expected
    assert reducer.tokens == {site: grid.tokens for site, grid in expected.items()}


@pytest.mark.parametrize(("tokens", "grid"), [(1, WHOLE), (7, None)])
def test_tokens_that_form_no_grid_are_refused_by_layer(
    wide: Components, tokens: int, grid: Grid | None
) -> None:
    def predict(latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        return Prediction(latents.clone(), {"odd.0": torch.ones(len(latents), tokens, 3)})

    reducer = Grids()
    recorded = RecordedModel(wide, predict, {"trained": conditional(["odd.0"])}, 2, 3.0, 2)
    block = BlockInput(PROMPTS[:1], SEEDS[:1])
    if grid:
        stream(recorded, block, [reducer], (0,), label)
        assert reducer.grids == {("trained", "odd.0"): grid}
        return
    message = r"layer odd\.0 of the trained network .* 7 tokens do not form a grid .* 16 x 24"
    with pytest.raises(EngineError, match=message):
        stream(recorded, block, [reducer], (0,), label)


@pytest.mark.parametrize(
    ("height", "width", "tokens"), [(16, 16, 64), (16, 24, 96), (5, 10, 50), (9, 9, 81)]
)
def test_the_text_has_half_the_rows_and_columns_of_the_latents_or_all(
    wide: Components, height: int, width: int, tokens: int
) -> None:
    noise = initial_noise(SEEDS[:1], (4, height, width))
    start = Start(noise, wide.embed(PROMPTS[:1]), wide.embed([""]))
    (pooled,) = text().begin(start)(None).values()  # type: ignore[arg-type]
    assert pooled.shape[:2] == (1, tokens)
    assert Grid.of(tokens, height, width).tokens == tokens


def test_latents_are_read_row_by_row() -> None:
    latents = torch.randn(2, 4, 6, 9, generator=torch.Generator().manual_seed(0))
    # The centre of the 3 x 3 neighbourhood is the latent pixel.
    centre = patches(latents).unflatten(2, (4, 9))[..., 4]
    assert torch.equal(centre.mT.unflatten(2, (6, 9)), latents)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        *[(512, 512, (64, 64)), (768, 768, (64, 64)), (64, 96, (32, 48)), (96, 64, (48, 32))],
        *[(512, 768, (32, 48)), (512, 1024, (32, 64)), (96, 96, (48, 48)), (8, 1000, (1, 125))],
    ],
)
def test_decoder_activations_are_averaged_over_blocks_that_tile_the_image(
    height: int, width: int, size: tuple[int, int]
) -> None:
    assert pooled_size(height, width) == size
    assert not height % size[0]
    assert not width % size[1]


def test_decoder_activations_of_a_wide_image_are_means_over_its_rows_and_columns(
    wide: Components,
) -> None:
    latents = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(1))
    outputs: list[Tensor] = []
    block: nn.Module = wide.vae.decoder.up_blocks[-1]
    handle = block.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    actual = decoder_activations(wide, latents)["up2"]
    handle.remove()
    means = nn.functional.avg_pool2d(outputs[0][:1], 2)
    assert means.shape[-2:] == (32, 48)
    torch.testing.assert_close(actual, means.flatten(2).mT)
