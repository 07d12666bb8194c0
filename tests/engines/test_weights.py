from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from engines.cache import hash_of_weights
from engines.components import Components
from engines.weights import permuted, reinitialised


@pytest.fixture(scope="module")
def permuted_unet(components: Components) -> UNet2DConditionModel:
    return permuted(components.denoiser, 0).module


def test_every_weight_tensor_keeps_its_entries_and_loses_their_order(
    components: Components, permuted_unet: UNet2DConditionModel
) -> None:
    trained = dict(components.denoiser.module.named_parameters())
    assert trained.keys() == dict(permuted_unet.named_parameters()).keys()
    moved = 0
    for name, weight in permuted_unet.named_parameters():
        assert weight.shape == trained[name].shape
        assert torch.equal(weight.flatten().sort().values, trained[name].flatten().sort().values)
        if name.endswith("weight") and trained[name].unique().numel() > 1:
            assert not torch.equal(weight, trained[name])
            moved += 1
    assert moved > 100


def test_biases_stay(components: Components, permuted_unet: UNet2DConditionModel) -> None:
    trained = dict(components.denoiser.module.named_parameters())
    biases = [name for name in trained if name.endswith("bias")]
    assert len(biases) > 100
    for name in biases:
        assert torch.equal(permuted_unet.get_parameter(name), trained[name])


def test_entries_move_between_channels(
    components: Components, permuted_unet: UNet2DConditionModel
) -> None:
    original = components.denoiser.module.conv_in.weight.flatten(1).sort().values
    assert not torch.equal(permuted_unet.conv_in.weight.flatten(1).sort().values, original)


def test_a_seed_decides_the_order_whatever_was_drawn_before(
    components: Components, permuted_unet: UNet2DConditionModel
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(99)
        state = torch.get_rng_state()
        again = permuted(components.denoiser, 0).module
        assert torch.equal(torch.get_rng_state(), state)
    assert hash_of_weights(again.state_dict()) == hash_of_weights(permuted_unet.state_dict())


def test_another_seed_gives_another_network(
    components: Components, permuted_unet: UNet2DConditionModel
) -> None:
    other = permuted(components.denoiser, 1).module
    for name in (
        "conv_in.weight",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
        "conv_out.weight",
    ):
        assert not torch.equal(other.get_parameter(name), permuted_unet.get_parameter(name))


def test_the_original_is_left_as_it_was(components: Components) -> None:
    before = hash_of_weights(components.denoiser.module.state_dict())
    other = permuted(components.denoiser, 2).module
    assert hash_of_weights(components.denoiser.module.state_dict()) == before
    assert other.conv_in.weight.data_ptr() != components.denoiser.module.conv_in.weight.data_ptr()
    assert not other.training


@pytest.fixture(scope="module")
def reinitialised_unet(components: Components) -> UNet2DConditionModel:
    return reinitialised(components.denoiser, 0).module


def test_a_network_drawn_anew_has_the_architecture_and_none_of_the_weights(
    components: Components, reinitialised_unet: UNet2DConditionModel
) -> None:
    trained, drawn = components.denoiser.module.state_dict(), reinitialised_unet.state_dict()
    assert {name: value.shape for name, value in trained.items()} == {
        name: value.shape for name, value in drawn.items()
    }
    assert not reinitialised_unet.training
    assert not any(weight.requires_grad for weight in reinitialised_unet.parameters())
    for name, weight in reinitialised_unet.named_parameters():
        # Scales and shifts of normalisations are one and zero; everything else is drawn.
        if weight.unique().numel() > 1:
            assert not torch.equal(weight, trained[name]), name
    with torch.inference_mode():
        latents, words = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 64)
        assert bool(
            torch.isfinite(reinitialised_unet(latents, torch.tensor(9.0), words).sample).all()
        )


def test_drawing_anew_neither_reads_nor_moves_the_global_generator(
    components: Components, reinitialised_unet: UNet2DConditionModel
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(99)
        state = torch.get_rng_state()
        again = reinitialised(components.denoiser, 0).module
        assert torch.equal(torch.get_rng_state(), state)
    assert hash_of_weights(again.state_dict()) == hash_of_weights(reinitialised_unet.state_dict())


def test_another_seed_draws_every_weight_anew(
    components: Components, reinitialised_unet: UNet2DConditionModel
) -> None:
    other = reinitialised(components.denoiser, 1).module
    drawn = [
        name
        for name, weight in reinitialised_unet.named_parameters()
        if weight.unique().numel() > 1
    ]
    assert len(drawn) > 200
    for name in drawn:
        assert not torch.equal(other.get_parameter(name), reinitialised_unet.get_parameter(name)), (
            name
        )


def test_weights_drawn_anew_have_the_spread_that_torch_gives_them(
    reinitialised_unet: UNet2DConditionModel,
) -> None:
    """Linear and convolution layers are uniform in -1/sqrt(fan in) to 1/sqrt(fan in)."""
    large = 0
    for name, module in reinitialised_unet.named_modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            continue
        bound = module.weight[0].numel() ** -0.5
        assert float(module.weight.abs().max()) <= bound, name
        if module.weight.numel() >= 4096:
            large += 1
            assert float(module.weight.abs().max()) > 0.98 * bound, name
            assert float(module.weight.std()) == pytest.approx(bound / 3**0.5, rel=0.05), name
            assert abs(float(module.weight.mean())) < 0.05 * bound, name
    assert large > 100


def test_a_trained_network_is_told_from_one_drawn_anew_by_its_spread(
    components: Components,
) -> None:
    trained = components.denoiser.module.get_parameter("mid_block.resnets.0.conv1.weight")
    assert float(trained.abs().max()) > 2 * trained[0].numel() ** -0.5


def test_drawing_anew_leaves_the_original_as_it_was(components: Components) -> None:
    before = hash_of_weights(components.denoiser.module.state_dict())
    reinitialised(components.denoiser, 5)
    assert hash_of_weights(components.denoiser.module.state_dict()) == before
