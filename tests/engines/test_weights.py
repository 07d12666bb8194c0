from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from engines.cache import hash_of_weights
from engines.load import Components
from engines.weights import permuted


@pytest.fixture(scope="module")
def shuffled(components: Components) -> UNet2DConditionModel:
    return permuted(components.unet, 0)


def test_every_weight_tensor_keeps_its_entries_and_loses_their_order(
    components: Components, shuffled: UNet2DConditionModel
) -> None:
    trained = dict(components.unet.named_parameters())
    assert trained.keys() == dict(shuffled.named_parameters()).keys()
    moved = 0
    for name, weight in shuffled.named_parameters():
        assert weight.shape == trained[name].shape
        assert torch.equal(weight.flatten().sort().values, trained[name].flatten().sort().values)
        if name.endswith("weight") and trained[name].unique().numel() > 1:
            assert not torch.equal(weight, trained[name])
            moved += 1
    assert moved > 100


def test_biases_stay(components: Components, shuffled: UNet2DConditionModel) -> None:
    trained = dict(components.unet.named_parameters())
    biases = [name for name in trained if name.endswith("bias")]
    assert len(biases) > 100
    for name in biases:
        assert torch.equal(shuffled.get_parameter(name), trained[name])


def test_entries_move_between_channels(components: Components, shuffled: UNet2DConditionModel) -> None:
    kept = components.unet.conv_in.weight.flatten(1).sort().values
    assert not torch.equal(shuffled.conv_in.weight.flatten(1).sort().values, kept)


def test_a_seed_decides_the_order_whatever_was_drawn_before(
    components: Components, shuffled: UNet2DConditionModel
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(99)
        state = torch.get_rng_state()
        again = permuted(components.unet, 0)
        assert torch.equal(torch.get_rng_state(), state)
    assert hash_of_weights(again.state_dict()) == hash_of_weights(shuffled.state_dict())


def test_another_seed_gives_another_network(components: Components, shuffled: UNet2DConditionModel) -> None:
    other = permuted(components.unet, 1)
    for name in ("conv_in.weight", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight", "conv_out.weight"):
        assert not torch.equal(other.get_parameter(name), shuffled.get_parameter(name))


def test_the_original_is_left_as_it_was(components: Components) -> None:
    before = hash_of_weights(components.unet.state_dict())
    other = permuted(components.unet, 2)
    assert hash_of_weights(components.unet.state_dict()) == before
    assert other.conv_in.weight.data_ptr() != components.unet.conv_in.weight.data_ptr()
    assert not other.training
