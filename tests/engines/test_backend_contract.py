"""The contract of every file in ``engines/backends``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.registry import plugin, plugins
from engines.components import Components
from engines.conditioning import Conditioning
from engines.denoiser import Denoiser
from engines.engine import Backend, Engine, Prediction, Tap
from engines.families.unet.taps import convolution_taps, self_attention_taps
from tests.typecheck import CHECKS_SHAPES

LIMITS = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.25}
"""Precision -> largest relative error of an output. With bf16 the noise errs by 0.5 %, and the tap
with the smallest values by up to 16 %."""
PROMPTS = ["a cyan cone on a clay floor with a pink wall and light from the left", "a dog"]


COMPILED = {"torch_compile"}
"""Engines that take minutes to start, and trace our own functions."""
untraceable = pytest.mark.skipif(
    CHECKS_SHAPES, reason="test_torch_compile.py runs it without the shape checks of tests"
)


def marks(name: str) -> list[pytest.MarkDecorator]:
    on_gpu = torch.device(plugin("engine", name).device).type == "cuda"
    if name in COMPILED:
        return [pytest.mark.slow, untraceable]
    return [pytest.mark.gpu] * on_gpu


ENGINES = [pytest.param(name, marks=marks(name)) for name in plugins("engine")]


@pytest.fixture(scope="module", params=ENGINES)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = plugin("engine", request.param)
    reason = chosen.unavailable()
    if reason:
        pytest.skip(reason)
    return chosen


@pytest.fixture(scope="module")
def engine(backend: Backend, components: Components, taps: tuple[Tap, ...], cache: Path) -> Engine:
    return backend.open(components.denoiser, taps, cache, 1)


@pytest.fixture(scope="module")
def limit(backend: Backend) -> float:
    return LIMITS[backend.precision]


@pytest.fixture(scope="module")
def inputs(components: Components) -> Callable[[int], tuple[Tensor, Conditioning]]:
    def draw(rows: int) -> tuple[Tensor, Conditioning]:
        generator = torch.Generator().manual_seed(0)
        text = Conditioning.joined([components.embed(PROMPTS)] * rows)[:rows]
        return torch.randn(rows, *components.latent_shape, generator=generator), text

    return draw


@pytest.fixture
def small(one_level: Callable[..., Denoiser]) -> tuple[Denoiser, tuple[Tap, ...]]:
    """A small network with two taps, always the same, so that its graph is traced once."""
    drawn: Denoiser = one_level()
    module = drawn.module
    return drawn, (self_attention_taps(module)[0], convolution_taps(module)[-1])


def everything(prediction: Prediction) -> dict[str, Tensor]:
    return {"noise": prediction.noise, **prediction.taps}


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.cpu().float() - expected.cpu()).norm() / expected.cpu().norm())


@pytest.mark.parametrize("name", plugins("engine"))
def test_a_backend_is_available_or_says_in_a_sentence_what_to_install(name: str) -> None:
    reason = plugin("engine", name).unavailable()
    assert reason is None or ("\n" not in reason and "install" in reason)


@pytest.mark.parametrize("name", plugins("engine"))
def test_a_backend_says_its_precision_and_device(name: str) -> None:
    backend = plugin("engine", name)
    assert backend.precision in LIMITS
    assert torch.device(backend.device).type in ("cpu", "cuda")


def test_a_prediction_has_every_tap_in_order_with_the_shapes_of_the_network(
    engine: Engine,
    taps: tuple[Tap, ...],
    components: Components,
    inputs: Callable[[int], tuple[Tensor, Conditioning]],
) -> None:
    latents, text = inputs(3)
    prediction = engine(latents, 500.0, text)
    assert prediction.noise.shape == latents.shape
    assert list(prediction.taps) == [tap.layer for tap in taps]
    sides = {"down0": 16, "down1": 8, "down2": 4, "mid": 2, "up1": 4, "up2": 8, "up3": 16}
    for tap in taps:
        channels = components.denoiser.module.get_submodule(tap.path).out_features
        assert prediction.taps[tap.layer].shape == (
            3,
            sides[tap.layer.partition(".")[0]] ** 2,
            channels,
        )
    for value in everything(prediction).values():
        assert value.dtype in (torch.float32, torch.float16)
        assert not value.requires_grad
        assert bool(value.isfinite().all())


def test_a_convolutions_pixels_are_tokens(
    backend: Backend, limit: float, small: tuple[Denoiser, tuple[Tap, ...]], cache: Path
) -> None:
    network, taps = small
    latents, text = torch.randn(2, 4, 8, 8), Conditioning({"text": torch.randn(2, 5, 8)})
    outputs: list[Tensor] = []
    hook = network.module.get_submodule(taps[1].path).register_forward_hook(
        lambda _m, _i, output: outputs.append(output.clone())
    )
    with torch.inference_mode():
        network(latents, torch.tensor(500.0), text)
    hook.remove()
    prediction = backend.open(network, taps, cache, 1)(latents, 500.0, text)
    assert list(prediction.taps) == [tap.layer for tap in taps]
    convolved = prediction.taps[taps[1].layer]
    assert convolved.shape == (2, 64, 8)
    assert relative(convolved, outputs[0].flatten(2).mT) <= limit


def test_a_backend_that_keeps_weights_needs_the_networks_no_more(
    backend: Backend, small: tuple[Denoiser, tuple[Tap, ...]], cache: Path
) -> None:
    network, taps = small
    engine = backend.open(network, taps, cache, 1)
    latents, text = torch.randn(3, 4, 8, 8), Conditioning({"text": torch.randn(3, 5, 8)})
    before = engine(latents[:2], 500.0, text[:2])
    if backend.keeps_weights:
        network.module.to("meta")
    # Some engines are rebuilt for another number of rows.
    after = engine(latents, 500.0, text)
    for name, value in everything(before).items():
        error = relative(everything(after)[name][:2], value.cpu().float())
        assert error <= LIMITS[backend.precision]


def test_at_every_timestep_every_output_is_torchs(
    engine: Engine,
    limit: float,
    components: Components,
    taps: tuple[Tap, ...],
    inputs: Callable[[int], tuple[Tensor, Conditioning]],
) -> None:
    latents, text = inputs(2)
    outputs: dict[str, Tensor] = {}
    handles = [
        components.denoiser.module.get_submodule(tap.path).register_forward_hook(
            lambda _m, _i, output, tap=tap: outputs.update({tap.layer: output.clone()})
        )
        for tap in taps
    ]
    scheduler = components.sampler(15).scheduler
    latents = latents * scheduler.init_noise_sigma
    try:
        for timestep in scheduler.timesteps:
            seen = scheduler.scale_model_input(latents, timestep)
            with torch.inference_mode():
                noise = components.denoiser.module(seen, timestep, text["text"]).sample
            expected = {"noise": noise, **outputs}
            actual = everything(engine(seen, float(timestep), text))
            assert actual.keys() == expected.keys()
            assert max(relative(actual[name], expected[name]) for name in expected) <= limit
            latents = scheduler.step(noise, timestep, latents).prev_sample
    finally:
        for handle in handles:
            handle.remove()


def test_the_caller_owns_the_outputs(
    engine: Engine, inputs: Callable[[int], tuple[Tensor, Conditioning]]
) -> None:
    latents, text = inputs(2)
    first = everything(engine(latents, 900.0, text))
    copies = {name: value.clone() for name, value in first.items()}
    second = everything(engine(latents.flip(0) * 2, 30.0, text[torch.arange(1, -1, -1)]))
    assert all(torch.equal(first[name], copies[name]) for name in copies)
    assert not any(torch.equal(second[name], copies[name]) for name in copies)
    tensors = (*first.values(), *second.values(), latents, *text.tensors.values())
    assert len({value.data_ptr() for value in tensors}) == len(tensors)


def test_the_inputs_are_left_as_they_were(
    engine: Engine, inputs: Callable[[int], tuple[Tensor, Conditioning]]
) -> None:
    latents, text = inputs(2)
    engine(latents, 500.0, text)
    again = inputs(2)
    assert torch.equal(latents, again[0])
    assert text == again[1]


def test_the_same_call_gives_the_same_bits(
    engine: Engine, inputs: Callable[[int], tuple[Tensor, Conditioning]]
) -> None:
    latents, text = inputs(2)
    first, second = (everything(engine(latents, 500.0, text)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_strided_inputs_are_read_right(
    engine: Engine, inputs: Callable[[int], tuple[Tensor, Conditioning]]
) -> None:
    latents, text = inputs(3)
    backwards = latents.flip(-1).contiguous().flip(-1)
    strided = torch.empty(*latents.shape, 2)[..., 0].copy_(latents)
    one = text[:1].expand(3)
    assert not strided.is_contiguous()
    assert not one["text"].is_contiguous()
    expected = everything(engine(latents, 500.0, Conditioning.joined([text[:1]] * 3)))
    for view in (backwards, strided):
        actual = everything(engine(view, 500.0, one))
        assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_rows_do_not_see_each_other(
    engine: Engine, limit: float, inputs: Callable[[int], tuple[Tensor, Conditioning]]
) -> None:
    # Few numbers of rows, since engines that compile do so for each.
    latents, text = inputs(3)
    together = everything(engine(latents, 500.0, text))
    for rows in (1, 2):
        alone = everything(engine(latents[1 : 1 + rows], 500.0, text[1 : 1 + rows]))
        assert (
            max(relative(alone[name], together[name][1 : 1 + rows]) for name in together) <= limit
        )


def test_latents_in_double_precision_are_refused_or_converted(
    engine: Engine, limit: float, inputs: Callable[[int], tuple[Tensor, Conditioning]]
) -> None:
    latents, text = inputs(2)
    expected = everything(engine(latents, 500.0, text))
    try:
        actual = everything(engine(latents.double(), 500.0, text))
    except Exception:
        return
    assert max(relative(actual[name], expected[name]) for name in expected) <= limit
