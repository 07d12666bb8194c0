"""Trajectories: noise, steps, taps and predicted clean latents against diffusers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import LMSDiscreteScheduler, StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.conditioning import Conditioning
from engines.engine import Prediction
from engines.onnx_session import OnnxRuntime
from extract.trajectory import Step, denoise, initial_noise, renoise

PROMPTS = [
    "a red sphere on a sand floor with a blue wall and light from the left",
    "an orange cone on a snow floor with a mint wall and light from the right",
]
SEEDS = [1234567, 89]
STEPS = 15


@pytest.fixture(scope="module")
def pipeline(components: Components) -> StableDiffusionPipeline:
    schedule = {key: value for key, value in components.schedule.items() if not key.startswith("_")}
    pipeline = StableDiffusionPipeline(
        vae=components.vae,
        text_encoder=components.parts["text_encoder"],
        tokenizer=components.parts["tokenizer"],
        unet=components.denoiser.module,
        scheduler=LMSDiscreteScheduler(**schedule | {"timestep_spacing": "linspace"}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def denoising_steps(
    components: Components, engine: Callable[..., Prediction], guidance: float
) -> list[Step]:
    noise = initial_noise(SEEDS, components.latent_shape)
    text, empty = components.embed(PROMPTS), components.embed([""])
    return list(denoise(engine, components.sampler(STEPS), noise, text, empty, guidance))


def torch_noise(seeds: list[int], shape: tuple[int, int, int]) -> Tensor:
    with torch.random.fork_rng():
        return torch.cat(
            [torch.randn(1, *shape, generator=torch.manual_seed(seed)) for seed in seeds]
        )


def relative(actual: Tensor, truth: Tensor) -> float:
    return float((actual - truth).norm() / truth.norm())


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_initial_noise_is_that_of_torch_for_each_seed(seeds: list[int]) -> None:
    shape = (4, 16, 16)
    noise = initial_noise(seeds, shape)
    assert torch.equal(noise, torch_noise(seeds, shape))
    assert torch.equal(noise, torch.cat([initial_noise([seed], shape) for seed in seeds]))


def test_initial_noise_neither_reads_nor_moves_the_global_generator() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first = initial_noise(SEEDS, (4, 8, 8))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(6)
        assert torch.equal(initial_noise(SEEDS, (4, 8, 8)), first)


@pytest.mark.parametrize("guidance", [1.0, 3.0, 7.5])
def test_latents_after_every_step_are_those_of_diffusers(
    components: Components, eager: TorchEager, pipeline: StableDiffusionPipeline, guidance: float
) -> None:
    reference: list[Tensor] = []

    def keep(_: object, __: int, ___: object, state: dict[str, Tensor]) -> dict[str, Tensor]:
        reference.append(state["latents"].clone())
        return state

    final = pipeline(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        latents=torch_noise(SEEDS, components.latent_shape),
        output_type="latent",
        callback_on_step_end=keep,
    ).images
    steps = denoising_steps(components, eager, guidance)
    assert len(steps) == len(reference) == STEPS
    assert relative(steps[-1].latents, final) <= 1e-5
    assert (
        max(relative(step.latents, latents) for step, latents in zip(steps, reference, strict=True))
        <= 1e-5
    )


def test_onnx_runtime_ends_where_diffusers_does(
    components: Components, onnx_engine: OnnxRuntime, pipeline: StableDiffusionPipeline
) -> None:
    final = pipeline(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        latents=torch_noise(SEEDS, components.latent_shape),
        output_type="latent",
    ).images
    assert relative(denoising_steps(components, onnx_engine, 7.5)[-1].latents, final) <= 1e-4


def test_a_step_holds_the_inputs_of_the_network(
    components: Components, onnx_engine: OnnxRuntime
) -> None:
    steps = denoising_steps(components, onnx_engine, 3.0)
    scheduler = components.sampler(STEPS).scheduler
    before = initial_noise(SEEDS, components.latent_shape) * scheduler.init_noise_sigma
    text = components.embed(PROMPTS)
    assert [step.index for step in steps] == list(range(STEPS))
    assert [step.timestep for step in steps] == scheduler.timesteps.tolist()
    assert [step.level.sigma for step in steps] == scheduler.sigmas[:STEPS].tolist()
    for step in steps:
        torch.testing.assert_close(
            step.model_input, before / (step.level.sigma**2 + 1) ** 0.5, rtol=1e-5, atol=1e-6
        )
        assert step.conditioning == text
        before = step.latents


def test_taps_and_noise_are_those_of_the_conditional_half(
    components: Components, onnx_engine: OnnxRuntime
) -> None:
    empty = components.embed([""]).expand(len(SEEDS))
    for step in denoising_steps(components, onnx_engine, 3.0):
        direct = onnx_engine(step.model_input, step.timestep, components.embed(PROMPTS))
        other = onnx_engine(step.model_input, step.timestep, empty)
        assert torch.equal(step.prediction.noise, direct.noise)
        assert step.prediction.taps.keys() == direct.taps.keys()
        for layer, activation in step.prediction.taps.items():
            assert torch.equal(activation, direct.taps[layer])
            # The first self-attention comes before the network reads any text.
            assert torch.equal(activation, other.taps[layer]) == (layer == "down0.0")


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_clean_latents_are_the_incoming_ones_less_the_guided_noise(
    components: Components, eager: TorchEager, guidance: float
) -> None:
    empty = components.embed([""]).expand(len(SEEDS))
    steps = denoising_steps(components, eager, guidance)
    for step in steps[:3] + steps[-1:]:
        incoming = step.model_input.double() * (step.level.sigma**2 + 1) ** 0.5
        conditional = eager(step.model_input, step.timestep, components.embed(PROMPTS))
        unconditional = eager(step.model_input, step.timestep, empty)
        difference = conditional.noise - unconditional.noise
        guided = (unconditional.noise + guidance * difference).double()
        assert relative(step.clean, incoming - step.level.sigma * guided) < 1e-5
    # The last step ends without noise, where a first-order sampler returns the clean latents.
    assert (
        relative(steps[-1].clean, steps[-1].latents)
        < 0.1
        < relative(steps[0].clean, steps[0].latents)
    )


def test_the_other_half_is_a_direct_call_without_a_prompt(
    components: Components, eager: TorchEager
) -> None:
    empty = components.embed([""]).expand(len(SEEDS))
    for step in denoising_steps(components, eager, 3.0)[::5]:
        direct = eager(step.model_input, step.timestep, empty)
        assert step.unconditional is not None
        assert relative(step.unconditional.noise, direct.noise) < 1e-5
        assert step.unconditional.taps.keys() == direct.taps.keys()
        assert all(
            relative(step.unconditional.taps[layer], tap) < 1e-4
            for layer, tap in direct.taps.items()
        )
        assert relative(step.unconditional.noise, step.prediction.noise) > 1e-3


def test_predicting_the_true_noise_gives_the_clean_latents(components: Components) -> None:
    clean = torch.randn(2, *components.latent_shape, generator=torch.Generator().manual_seed(4))
    noise = initial_noise(SEEDS, components.latent_shape)
    text = components.embed(PROMPTS)
    for step in renoise(
        lambda *_: Prediction(noise, {}), components.sampler(STEPS), clean, noise, text
    ):
        assert step.unconditional is None
        # The tolerance is the rounding of the noise in single precision.
        torch.testing.assert_close(
            step.clean, clean, rtol=0, atol=1e-5 * max(1.0, step.level.sigma)
        )
        torch.testing.assert_close(
            step.latents, clean + step.level.sigma * noise, rtol=1e-5, atol=1e-5
        )


def noise_levels() -> list[float]:
    """Of the published sampler, from its definition, in float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    levels = ((1 - kept) / kept).sqrt()
    at = torch.linspace(999, 0, STEPS, dtype=torch.float64)
    low = at.floor().long()
    return (levels[low] + (at - low) * (levels[(low + 1).clamp(max=999)] - levels[low])).tolist()


def test_renoising_adds_the_seeds_noise_at_every_steps_level(components: Components) -> None:
    clean = torch.randn(2, *components.latent_shape, generator=torch.Generator().manual_seed(4))
    noise = initial_noise(SEEDS, components.latent_shape)
    text = components.embed(PROMPTS)
    calls: list[tuple[Tensor, float, Conditioning]] = []

    def engine(latents: Tensor, timestep: float, words: Conditioning) -> Prediction:
        calls.append((latents, timestep, words))
        return Prediction(latents, {"mid.0": latents.flatten(2)})

    steps = list(renoise(engine, components.sampler(STEPS), clean, noise, text))
    levels = noise_levels()
    assert len(steps) == len(calls) == STEPS
    assert [step.timestep for step in steps] == pytest.approx(
        torch.linspace(999, 0, STEPS).tolist()
    )
    for step, (latents, timestep, words), level in zip(steps, calls, levels, strict=True):
        expected = (clean.double() + level * noise.double()) / (level**2 + 1) ** 0.5
        torch.testing.assert_close(latents.double(), expected, rtol=1e-4, atol=1e-5)
        assert step.level.sigma == pytest.approx(level, rel=1e-4)
        assert torch.equal(step.model_input, latents)
        assert step.timestep == timestep
        assert words == text
        assert torch.equal(step.prediction.taps["mid.0"], latents.flatten(2))
