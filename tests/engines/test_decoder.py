"""The decoder's activations against plain forward hooks, one image at a time."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from engines.components import DECODE_BATCH, Components
from engines.decoder import LARGEST_SIDE, decoder_activations

LAYERS = {
    "mid": "mid_block.attentions.0",
    "up0": "up_blocks.0",
    "up1": "up_blocks.1",
    "up2": "up_blocks.2",
}


def latents_of(n: int, side: int = 16) -> Tensor:
    return torch.randn(n, 4, side, side, generator=torch.Generator().manual_seed(n))


def hooked(vae: AutoencoderKL, latent: Tensor) -> dict[str, Tensor]:
    """Outputs (channels height width) for one scaled latent."""
    outputs: dict[str, Tensor] = {}
    handles = [
        vae.decoder.get_submodule(path).register_forward_hook(
            lambda *args, layer=layer: outputs.update({layer: args[2][0]})
        )
        for layer, path in LAYERS.items()
    ]
    with torch.inference_mode():
        vae.decode(latent[None] / vae.config.scaling_factor)
    for handle in handles:
        handle.remove()
    return outputs


def with_parts(components: Components, **parts: torch.nn.Module) -> Components:
    return replace(components, parts={**components.parts, **parts})


def assert_near(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("n", [1, 3, DECODE_BATCH, DECODE_BATCH + 1, 2 * DECODE_BATCH + 3])
def test_activations_are_those_of_every_image_alone(components: Components, n: int) -> None:
    latents = latents_of(n)
    actual = decoder_activations(components, latents)
    assert list(actual) == list(LAYERS)
    for index, latent in enumerate(latents):
        for layer, output in hooked(components.vae, latent).items():
            # Row by row, as attention reads its tokens.
            assert_near(actual[layer][index], output.flatten(1).T)
    assert all(len(activation) == n for activation in actual.values())


def test_no_batch_changes_a_bit(components: Components) -> None:
    latents = latents_of(DECODE_BATCH + 2)
    together = decoder_activations(components, latents)
    for index in range(len(latents)):
        alone = decoder_activations(components, latents[index : index + 1])
        for layer, activation in alone.items():
            assert torch.equal(activation[0], together[layer][index])


def test_grids_larger_than_the_largest_are_averaged(components: Components) -> None:
    latents = latents_of(2, side=40)
    actual = decoder_activations(components, latents)
    sides = {"mid": 40, "up0": 80, "up1": 160, "up2": 160}
    for index, latent in enumerate(latents):
        for layer, output in hooked(components.vae, latent).items():
            assert output.shape[-1] == sides[layer]
            side = min(sides[layer], LARGEST_SIDE)
            assert actual[layer].shape[1] == side**2
            # Window i of the average reaches from floor(i s / 64) to ceil((i + 1) s / 64).
            for y, x in ((0, 0), (side - 1, 3), (side // 2, side - 1)):
                rows, columns = (
                    slice(i * sides[layer] // side, -(-(i + 1) * sides[layer] // side))
                    for i in (y, x)
                )
                assert_near(
                    actual[layer][index, y * side + x], output[:, rows, columns].mean((1, 2))
                )


def test_no_hook_stays_whatever_happens(components: Components) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in components.vae.modules())

    before = hooks()
    decoder_activations(components, latents_of(1))
    assert hooks() == before
    with pytest.raises(RuntimeError):
        decoder_activations(components, torch.zeros(1, 5, 16, 16))
    assert hooks() == before


def test_a_decoder_of_any_depth_is_recorded(components: Components) -> None:
    small = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
    )
    activations = decoder_activations(
        with_parts(components, vae=small.eval()), latents_of(1, side=8)
    )
    shapes = {layer: tuple(activation.shape) for layer, activation in activations.items()}
    assert shapes == {"mid": (1, 64, 8), "up0": (1, 256, 8), "up1": (1, 256, 8)}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_decoder_without_attention_in_its_middle_has_its_blocks_alone(
    components: Components, depth: int
) -> None:
    plain = AutoencoderKL(
        block_out_channels=(8,) * depth,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    activations = decoder_activations(
        with_parts(components, vae=plain.eval()), latents_of(1, side=8)
    )
    assert list(activations) == [f"up{index}" for index in range(depth)]


@pytest.mark.parametrize(("side", "at_once"), [(16, DECODE_BATCH), (64, 1)])
def test_large_images_are_decoded_one_at_a_time(
    components: Components, side: int, at_once: int
) -> None:
    vae = deepcopy(components.vae)
    unet = UNet2DConditionModel.from_config(components.denoiser.config, sample_size=side)
    parts = replace(with_parts(components, unet=unet, vae=vae), latent_shape=(4, side, side))
    sizes: list[int] = []
    handle = vae.decoder.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    images = parts.decode(latents_of(2, side=side))
    assert images.shape == (2, 3, *parts.image_size)
    activations = decoder_activations(parts, latents_of(2, side=side))
    handle.remove()
    assert all(len(activation) == 2 for activation in activations.values())
    handle = vae.encoder.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    assert parts.encode(images).shape == (2, 4, side, side)
    handle.remove()
    assert set(sizes) == {at_once}


def test_blocks_are_numbered_in_the_order_of_computation(components: Components) -> None:
    """Sana's decoder computes its list of blocks from the end."""
    deep = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
    )
    activations = decoder_activations(
        with_parts(components, vae=deep.eval()), latents_of(1, side=8)
    )
    tokens = {layer: activation.shape[1] for layer, activation in activations.items()}
    assert tokens == {"up0": 64, "up1": 256, "up2": 1024}


def test_what_overflows_half_precision_is_computed_again(components: Components) -> None:
    large = deepcopy(components.vae)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(large.decoder.conv_in, name).mul_(1e6)
    parts = with_parts(components, vae=large)
    halved = decoder_activations(replace(parts, half_decoding=True), latents_of(2))
    for layer, expected in decoder_activations(parts, latents_of(2)).items():
        assert torch.equal(halved[layer], expected)
