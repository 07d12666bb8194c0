"""Every source against a direct call of the network that it records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from engines.backends.torch_eager import BACKEND, TorchEager
from engines.components import Components
from engines.decoder import decoder_activations
from engines.engine import Engine, Tap, layer_of_convolution
from engines.errors import EngineError
from engines.weights import permuted
from extract.sources import (
    ActivationSource,
    Start,
    conditional,
    convolution,
    decoded,
    decoder,
    latent,
    matched,
    own,
    patches,
    text,
    unconditional,
)
from extract.trajectory import Step, denoise, initial_noise, renoise
from tests.extract import recording
from tests.extract.recording import RecordingEngine

STEPS = 4
GUIDANCE = 3.0
PROMPTS, SEEDS = recording.PROMPTS[:3], recording.SEEDS[:3]
LAYERS = ("down0.0", "mid.0", "up3.2")


@pytest.fixture(scope="module")
def other(components: Components, taps: tuple[Tap, ...], cache: Path) -> TorchEager:
    """A network of permuted weights."""
    return BACKEND.open(permuted(components.denoiser, 0), taps, cache, 1)


@pytest.fixture(scope="module")
def with_convolutions(components: Components, taps: tuple[Tap, ...], cache: Path) -> TorchEager:
    return BACKEND.open(components.denoiser, (*taps, *components.convolutions), cache, 1)


@pytest.fixture(scope="module")
def start(components: Components) -> Start:
    noise = initial_noise(SEEDS, components.latent_shape)
    return Start(noise, components.embed(PROMPTS), components.embed([""]))


def denoising(components: Components, engine: Engine, start: Start) -> Iterator[Step]:
    return denoise(
        engine, components.sampler(STEPS), start.noise, start.conditioning, start.empty, GUIDANCE
    )


@pytest.fixture(scope="module")
def steps(components: Components, with_convolutions: TorchEager, start: Start) -> list[Step]:
    """The trained model's trajectory, with taps on its convolutions."""
    return list(denoising(components, with_convolutions, start))


def read(source: ActivationSource, start: Start, steps: Sequence[Step]) -> list[dict[str, Tensor]]:
    reader = source.begin(start)
    return [dict(reader(step)) for step in steps]


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for layer, activation in expected.items():
        assert torch.equal(actual[layer], activation), layer


def assert_near(actual: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of another batch size."""
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_the_latent_is_the_input_of_the_network(start: Start, steps: list[Step]) -> None:
    for step, actual in zip(steps, read(latent(), start, steps), strict=True):
        assert_equal(actual, {"latent": patches(step.model_input)})


def test_the_conditional_source_is_a_direct_call_with_the_prompt(
    start: Start, steps: list[Step], with_convolutions: TorchEager
) -> None:
    for step, actual in zip(steps, read(conditional(LAYERS[::-1]), start, steps), strict=True):
        direct = with_convolutions(step.model_input, step.timestep, start.conditioning).taps
        assert tuple(actual) == LAYERS
        for layer in LAYERS:
            assert_near(actual[layer], direct[layer])


def test_the_unconditional_source_is_a_direct_call_with_the_empty_prompt(
    start: Start, steps: list[Step], eager: TorchEager
) -> None:
    empty = start.empty.expand(len(SEEDS))
    for step, actual in zip(steps, read(unconditional(LAYERS), start, steps), strict=True):
        direct = eager(step.model_input, step.timestep, empty).taps
        assert tuple(actual) == LAYERS
        for layer in LAYERS:
            assert_near(actual[layer], direct[layer])
            # The first self-attention comes before the network reads any text.
            difference = float((actual[layer] - step.prediction.taps[layer]).abs().max())
            assert (difference < 1e-4) == (layer == "down0.0")


def test_images_that_are_noised_have_no_unconditional_half(
    components: Components, start: Start, eager: TorchEager
) -> None:
    noise, sampler = start.noise, components.sampler(STEPS)
    noised = next(renoise(eager, sampler, noise, noise, start.conditioning))
    with pytest.raises(EngineError, match="no unconditional branch"):
        unconditional(LAYERS).begin(start)(noised)


def test_the_text_is_the_mean_word_at_every_token(start: Start, steps: list[Step]) -> None:
    mean = start.conditioning["text"].numpy().mean(1)
    for actual in read(text(), start, steps):
        (pooled,) = actual.values()
        # Half the side of 16 x 16 latents.
        assert list(actual) == ["pooled"]
        expected = torch.from_numpy(mean)[:, None].expand(-1, 64, -1)
        torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)


def test_a_matched_network_is_called_with_the_trained_networks_latents(
    components: Components, start: Start, steps: list[Step], other: TorchEager
) -> None:
    engine = RecordingEngine(other)
    actual = read(matched(engine, LAYERS, 16), start, [steps[0], steps[2]])
    assert len(engine.calls) == 2
    for step, call, activations in zip((steps[0], steps[2]), engine.calls, actual, strict=True):
        latents, timestep, words = call
        assert torch.equal(latents, step.model_input)
        assert timestep == step.timestep
        assert words == components.embed(PROMPTS)
        direct = other(step.model_input, step.timestep, start.conditioning).taps
        assert_equal(activations, {layer: direct[layer] for layer in LAYERS})


def test_other_networks_compute_no_more_rows_than_the_batch(
    components: Components, start: Start, steps: list[Step], other: TorchEager
) -> None:
    on_trained, on_own = RecordingEngine(other), RecordingEngine(other)
    read(matched(on_trained, LAYERS, 2), start, steps[:1])
    read(own(on_own, LAYERS, 2, components, STEPS, GUIDANCE), start, steps[:1])
    assert [len(latents) for latents, _, _ in on_trained.calls] == [2, 1]
    assert [len(latents) for latents, _, _ in on_own.calls] == [2, 2, 2]


@pytest.mark.parametrize("probed", [(0, 1, 2, 3), (1, 3), (3,)])
def test_a_network_on_its_own_trajectory_is_that_of_denoising_with_it(
    probed: tuple[int, ...],
    components: Components,
    start: Start,
    steps: list[Step],
    other: TorchEager,
) -> None:
    source = own(other, LAYERS, 16, components, STEPS, GUIDANCE)
    actual = read(source, start, [steps[at] for at in probed])
    alone = list(denoising(components, other, start))
    for at, activations in zip(probed, actual, strict=True):
        assert_equal(activations, {layer: alone[at].prediction.taps[layer] for layer in LAYERS})
        if at:
            assert not torch.allclose(
                alone[at].model_input, steps[at].model_input, rtol=0.01, atol=0.01
            )


def test_every_block_begins_a_new_trajectory(
    components: Components, start: Start, steps: list[Step], other: TorchEager
) -> None:
    source = own(other, LAYERS, 16, components, STEPS, GUIDANCE)
    first, second = read(source, start, steps), read(source, start, steps)
    for before, after in zip(first, second, strict=True):
        assert_equal(before, after)
    fewer = Start(start.noise[:1], start.conditioning[:1], start.empty)
    for before, after in zip(first, read(source, fewer, steps), strict=True):
        for layer in LAYERS:
            assert_near(after[layer], before[layer][:1])


def hooked(unet: UNet2DConditionModel, paths: Sequence[str], *inputs: Tensor) -> list[Tensor]:
    """Outputs of the modules at the paths, by forward hooks."""
    outputs: dict[str, Tensor] = {}
    handles = [
        unet.get_submodule(path).register_forward_hook(
            lambda *args, path=path: outputs.update({path: args[2]})
        )
        for path in paths
    ]
    with torch.inference_mode():
        unet(*inputs)
    for handle in handles:
        handle.remove()
    return [outputs[path] for path in paths]


def test_convolutions_are_the_outputs_of_the_residual_blocks_last_convolution(
    components: Components, start: Start, steps: list[Step]
) -> None:
    paths = {
        "up2.2": "up_blocks.2.resnets.2.conv2",
        "mid.1": "mid_block.resnets.1.conv2",
        "down0.1": "down_blocks.0.resnets.1.conv2",
    }
    actual = read(convolution(list(paths)), start, steps)
    for step, activations in zip(steps, actual, strict=True):
        assert list(activations) == ["down0.1", "mid.1", "up2.2"]
        outputs = hooked(
            components.denoiser.module,
            list(paths.values()),
            step.model_input,
            torch.tensor(step.timestep),
            start.conditioning["text"],
        )
        for layer, output in zip(paths, outputs, strict=True):
            n, channels, height, width = output.shape
            assert activations[layer].shape == (n, height * width, channels)
            for y, x in ((0, 0), (height - 1, 0), (0, width - 1), (height // 2, width // 3)):
                assert_near(activations[layer][:, y * width + x], output[:, :, y, x])


def test_convolution_and_attention_of_one_name_are_distinguished(
    start: Start, steps: list[Step]
) -> None:
    convolved = read(convolution(["down0.0"]), start, steps[:1])[0]["down0.0"]
    attended = read(conditional(["down0.0"]), start, steps[:1])[0]["down0.0"]
    assert convolved.shape == attended.shape
    assert not torch.allclose(convolved, attended, atol=0.01)
    assert "conv.down0.0" not in read(conditional(["conv"]), start, steps[:1])[0]


@pytest.mark.slow
def test_convolutions_of_onnxruntime_are_those_of_torch(
    components: Components, taps: tuple[Tap, ...], cache: Path, start: Start, steps: list[Step]
) -> None:
    from engines.backends.onnxruntime import BACKEND as ONNX

    tapped = (*taps, *components.convolutions)
    engine = ONNX.open(components.denoiser, tapped, cache, 1)
    layers = [layer_of_convolution(tap) for tap in tapped[len(taps) :]]
    reader = convolution(layers).begin(start)
    for step, of_torch in zip(denoising(components, engine, start), steps, strict=True):
        actual, expected = reader(step), convolution(layers).begin(start)(of_torch)
        assert list(actual) == list(expected) == layers
        for layer in layers:
            assert_near(actual[layer], expected[layer])


def test_the_decoder_is_recorded_on_the_latents_after_the_step(
    components: Components, start: Start, steps: list[Step]
) -> None:
    for step, actual in zip(steps, read(decoder(components), start, steps), strict=True):
        assert_equal(actual, decoder_activations(components, step.latents))


def test_what_is_decoded_is_the_latents_and_the_clean_latents_predicted(
    components: Components, start: Start, steps: list[Step]
) -> None:
    def pixels(images: Tensor) -> Tensor:
        return images.flatten(2).mT

    source = decoded(components, pixels)
    assert not source.fitted
    for step, actual in zip(steps, read(source, start, steps), strict=True):
        expected = {
            "latent": components.decode(step.latents),
            "predicted": components.decode(step.clean),
        }
        assert_equal(actual, {layer: pixels(images) for layer, images in expected.items()})
    assert not torch.allclose(
        actual["latent"], read(source, start, steps[:1])[0]["latent"], atol=0.01
    )


def test_patches_are_the_zero_padded_neighbourhoods() -> None:
    latents = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    actual = patches(latents)
    assert actual.shape == (2, 25, 27)
    for y in range(5):
        for x in range(5):
            for channel in range(3):
                for tap, (dy, dx) in enumerate((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                    inside = 0 <= y + dy < 5 and 0 <= x + dx < 5
                    expected = latents[:, channel, y + dy, x + dx] if inside else torch.zeros(2)
                    assert torch.equal(actual[:, 5 * y + x, 9 * channel + tap], expected)
