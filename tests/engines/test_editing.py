"""Editing hooks against edits of the weights; no hook outlives its block."""

from __future__ import annotations

import pytest
import torch

from engines.backends.torch_eager import TorchEager, recording_taps
from engines.components import Components
from engines.conditioning import Conditioning
from engines.editing import editing
from engines.engine import Tap


@pytest.fixture
def inputs(components: Components) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *components.latent_shape, generator=draw)
    return (
        latents,
        torch.tensor(500.0),
        components.embed(["a red sphere", "a blue box"])["text"].clone(),
    )


def noise(components: Components, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    latents, timestep, text = inputs
    return components.denoiser.module(latents, timestep, text).sample


def hooks(components: Components, taps: tuple[Tap, ...]) -> int:
    return sum(
        len(components.denoiser.module.get_submodule(tap.path)._forward_hooks) for tap in taps
    )


def test_an_edit_replaces_what_the_rest_of_the_network_sees(
    components: Components, taps: tuple[Tap, ...], inputs: tuple[torch.Tensor, ...]
) -> None:
    """The reference adds the same shift to the projection's bias."""
    tap = taps[10]
    shift = torch.linspace(-1, 1, components.denoiser.module.get_submodule(tap.path).out_features)
    plain = noise(components, inputs)
    seen = []
    with (
        torch.no_grad(),
        editing(components.denoiser, [tap], lambda layer, x: seen.append(layer) or x + shift),
    ):
        edited = noise(components, inputs)
    bias = components.denoiser.module.get_submodule(tap.path).bias
    original = bias.clone()
    with torch.no_grad():
        bias += shift
        expected = noise(components, inputs)
        # The network is shared, and subtracting the shift would not restore every bit.
        bias.copy_(original)
    assert seen == [tap.layer]
    assert torch.allclose(edited, expected, rtol=0, atol=1e-5)
    assert (edited - plain).abs().max() > 1e-3


def test_edits_come_in_the_order_of_computation_and_are_recorded(
    components: Components, taps: tuple[Tap, ...], inputs: tuple[torch.Tensor, ...]
) -> None:
    order = []
    with (
        torch.no_grad(),
        editing(
            components.denoiser, taps, lambda layer, x: order.append(layer) or torch.zeros_like(x)
        ),
        recording_taps(components.denoiser.module, taps) as outputs,
    ):
        noise(components, inputs)
    assert order == [tap.layer for tap in taps]
    assert all(value.abs().max() == 0 for value in outputs.values())


@pytest.mark.parametrize("fails", ["edit", "caller", "path", None])
def test_hooks_are_gone_whatever_ends_the_block(
    fails: str | None,
    components: Components,
    taps: tuple[Tap, ...],
    inputs: tuple[torch.Tensor, ...],
) -> None:
    before = noise(components, inputs)

    def edit(_layer: str, x: torch.Tensor) -> torch.Tensor:
        if fails == "edit":
            raise ZeroDivisionError
        return x + 1

    edited = [*taps, Tap("none", "no.such.module")] if fails == "path" else taps
    raised: type[Exception] | None = None
    try:
        with editing(components.denoiser, edited, edit):
            assert hooks(components, taps) == len(taps)
            noise(components, inputs)
            if fails == "caller":
                raise ZeroDivisionError
    except (ZeroDivisionError, AttributeError) as error:
        raised = type(error)
    expected = {"edit": ZeroDivisionError, "caller": ZeroDivisionError, "path": AttributeError}
    assert raised == expected.get(fails)
    assert hooks(components, taps) == 0
    assert torch.equal(noise(components, inputs), before)


def test_gradients_flow_through_an_edit(
    components: Components, taps: tuple[Tap, ...], inputs: tuple[torch.Tensor, ...]
) -> None:
    latents, timestep, text = inputs
    strength = torch.zeros((), requires_grad=True)
    direction = torch.ones(components.denoiser.module.get_submodule(taps[12].path).out_features)
    with editing(components.denoiser, [taps[12]], lambda _layer, x: x + strength * direction):
        components.denoiser.module(latents, timestep, text).sample.square().mean().backward()
    slope = float(strength.grad)

    def at(value: float) -> float:
        with (
            torch.no_grad(),
            editing(components.denoiser, [taps[12]], lambda _layer, x: x + value * direction),
        ):
            return float(
                components.denoiser.module(latents, timestep, text).sample.double().square().mean()
            )

    assert slope == pytest.approx((at(0.05) - at(-0.05)) / 0.1, rel=0.05)


def test_the_backend_itself_can_be_edited(
    components: Components,
    eager: TorchEager,
    taps: tuple[Tap, ...],
    inputs: tuple[torch.Tensor, ...],
) -> None:
    latents, timestep, text = inputs
    with editing(components.denoiser, [taps[9]], lambda _layer, x: x * 0):
        prediction = eager(latents, float(timestep), Conditioning({"text": text}))
    assert prediction.taps[taps[9].layer].abs().max() == 0
