from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import LMSDiscreteScheduler, StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.backends.onnxruntime import OnnxRuntime
from engines.backends.torch_eager import TorchEager
from engines.engine import Prediction
from engines.errors import EngineError
from engines.load import Components
from engines.ring import Ring
from extract.trajectory import Step, denoise, in_batches, initial_noise, renoise

PROMPTS = [
    "a red sphere on a sand floor with a blue wall and light from the left",
    "an orange cone on a snow floor with a mint wall and light from the right",
]
SEEDS = [1234567, 89]
STEPS = 15


@pytest.fixture(scope="module")
def pipeline(components: Components) -> StableDiffusionPipeline:
    schedule = {key: value for key, value in components.schedule.items() if not key.startswith("_")}
    painter = StableDiffusionPipeline(
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=components.unet,
        scheduler=LMSDiscreteScheduler(**schedule | {"timestep_spacing": "linspace"}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    painter.set_progress_bar_config(disable=True)
    return painter


def painted(components: Components, engine: Callable[..., Prediction], guidance: float) -> list[Step]:
    noise = initial_noise(SEEDS, components.latent_shape)
    text, empty = components.embed(PROMPTS), components.embed([""])
    return list(denoise(engine, components.scheduler(STEPS), noise, text, empty, guidance))


def torch_noise(seeds: list[int], shape: tuple[int, int, int]) -> Tensor:
    with torch.random.fork_rng():
        return torch.cat([torch.randn(1, *shape, generator=torch.manual_seed(seed)) for seed in seeds])


def relative(ours: Tensor, truth: Tensor) -> float:
    return float((ours - truth).norm() / truth.norm())


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_initial_noise_is_torchs_own_for_each_seed(seeds: list[int]) -> None:
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
    theirs: list[Tensor] = []

    def keep(_: object, __: int, ___: object, state: dict[str, Tensor]) -> dict[str, Tensor]:
        theirs.append(state["latents"].clone())
        return state

    final = pipeline(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        latents=torch_noise(SEEDS, components.latent_shape),
        output_type="latent",
        callback_on_step_end=keep,
    ).images
    steps = painted(components, eager, guidance)
    assert len(steps) == len(theirs) == STEPS
    assert relative(steps[-1].latents, final) <= 1e-5
    assert max(relative(step.latents, latents) for step, latents in zip(steps, theirs, strict=True)) <= 1e-5


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
    assert relative(painted(components, onnx_engine, 7.5)[-1].latents, final) <= 1e-4


def test_a_step_says_what_the_network_saw(components: Components, onnx_engine: OnnxRuntime) -> None:
    steps = painted(components, onnx_engine, 3.0)
    scheduler = components.scheduler(STEPS)
    before = initial_noise(SEEDS, components.latent_shape) * scheduler.init_noise_sigma
    text = components.embed(PROMPTS)
    assert [step.index for step in steps] == list(range(STEPS))
    assert [step.timestep for step in steps] == scheduler.timesteps.tolist()
    assert [step.sigma for step in steps] == scheduler.sigmas[:STEPS].tolist()
    for step in steps:
        torch.testing.assert_close(step.model_input, before / (step.sigma**2 + 1) ** 0.5, rtol=1e-5, atol=1e-6)
        assert torch.equal(step.text, text)
        before = step.latents


def test_taps_and_noise_are_those_of_the_conditional_half(components: Components, onnx_engine: OnnxRuntime) -> None:
    empty = components.embed([""]).expand(len(SEEDS), -1, -1)
    for step in painted(components, onnx_engine, 3.0):
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
    empty = components.embed([""]).expand(len(SEEDS), -1, -1)
    steps = painted(components, eager, guidance)
    for step in steps[:3] + steps[-1:]:
        incoming = step.model_input.double() * (step.sigma**2 + 1) ** 0.5
        given = eager(step.model_input, step.timestep, components.embed(PROMPTS))
        other = eager(step.model_input, step.timestep, empty)
        guided = (other.noise + guidance * (given.noise - other.noise)).double()
        assert relative(step.clean, incoming - step.sigma * guided) < 1e-5
    # The last step ends at no noise: there the first-order sampler would give the clean latents themselves.
    assert relative(steps[-1].clean, steps[-1].latents) < 0.1 < relative(steps[0].clean, steps[0].latents)


def test_the_other_half_is_a_direct_call_without_a_prompt(components: Components, eager: TorchEager) -> None:
    empty = components.embed([""]).expand(len(SEEDS), -1, -1)
    for step in painted(components, eager, 3.0)[::5]:
        direct = eager(step.model_input, step.timestep, empty)
        assert step.without is not None
        assert relative(step.without.noise, direct.noise) < 1e-5
        assert step.without.taps.keys() == direct.taps.keys()
        assert all(relative(step.without.taps[layer], seen) < 1e-4 for layer, seen in direct.taps.items())
        assert relative(step.without.noise, step.prediction.noise) > 1e-3


def test_a_network_that_knows_the_noise_foresees_the_clean_picture(components: Components) -> None:
    clean = torch.randn(2, *components.latent_shape, generator=torch.Generator().manual_seed(4))
    noise = initial_noise(SEEDS, components.latent_shape)
    text = components.embed(PROMPTS)
    for step in renoise(lambda *_: Prediction(noise, {}), components.scheduler(STEPS), clean, noise, text):
        assert step.without is None
        # Single precision leaves a share of the noise's rounding.
        torch.testing.assert_close(step.clean, clean, rtol=0, atol=1e-5 * max(1.0, step.sigma))
        torch.testing.assert_close(step.latents, clean + step.sigma * noise, rtol=1e-5, atol=1e-5)


def noise_levels() -> list[float]:
    """Of the paper's sampler, from its definition and in float64."""
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
    calls: list[tuple[Tensor, float, Tensor]] = []

    def engine(latents: Tensor, timestep: float, words: Tensor) -> Prediction:
        calls.append((latents, timestep, words))
        return Prediction(latents, {"mid.0": latents.flatten(2)})

    steps = list(renoise(engine, components.scheduler(STEPS), clean, noise, text))
    levels = noise_levels()
    assert len(steps) == len(calls) == STEPS
    assert [step.timestep for step in steps] == pytest.approx(torch.linspace(999, 0, STEPS).tolist())
    for step, (latents, timestep, words), level in zip(steps, calls, levels, strict=True):
        expected = (clean.double() + level * noise.double()) / (level**2 + 1) ** 0.5
        torch.testing.assert_close(latents.double(), expected, rtol=1e-4, atol=1e-5)
        assert step.sigma == pytest.approx(level, rel=1e-4)
        assert torch.equal(step.model_input, latents)
        assert step.timestep == timestep
        assert torch.equal(words, text)
        assert torch.equal(step.prediction.taps["mid.0"], latents.flatten(2))


@given(rows=st.integers(1, 20), batch=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_batches_are_small_enough_and_joined_in_order(rows: int, batch: int) -> None:
    sizes: list[int] = []

    def engine(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        sizes.append(len(latents))
        assert timestep == 7.0
        return Prediction(latents * 2, {"up3.0": text + 1, "mid.0": latents.flatten(2)})

    latents, text = torch.arange(rows * 4.0).view(rows, 1, 2, 2), torch.arange(rows * 6.0).view(rows, 2, 3)
    whole = in_batches(engine, latents, 7.0, text, batch)
    assert max(sizes) <= batch
    assert sum(sizes) == rows
    assert torch.equal(whole.noise, latents * 2)
    assert list(whole.taps) == ["up3.0", "mid.0"]
    assert torch.equal(whole.taps["up3.0"], text + 1)
    assert torch.equal(whole.taps["mid.0"], latents.flatten(2))


class LateCopier:
    """Copies from a device whose tensors only it can read, and not before it is waited for."""

    def __init__(self) -> None:
        self.memory: dict[int, tuple[Tensor, Tensor]] = {}
        self.queue: list[Callable[[], object]] = []
        self.log: list[str] = []

    def born(self, value: Tensor) -> Tensor:
        there = torch.empty(value.shape, dtype=value.dtype, device="meta")
        self.memory[id(there)] = (there, value)
        return there

    def host(self, like: Tensor) -> Tensor:
        return torch.full(like.shape, float("nan"), dtype=like.dtype)

    def copy(self, source: Tensor, target: Tensor) -> None:
        _, value = self.memory[id(source)]
        self.queue.append(lambda: target.copy_(value))

    def mark(self) -> Callable[[], None]:
        self.log.append("put")
        mine, self.queue = self.queue, []

        def wait() -> None:
            self.log.append("wait")
            for work in mine:
                work()

        return wait


@given(rows=st.integers(1, 20), batch=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_what_is_born_on_a_device_arrives_on_the_cpu_whole_and_in_fp32(rows: int, batch: int) -> None:
    copier = LateCopier()
    ring = Ring(copier, 2)

    def engine(latents: Tensor, _timestep: float, text: Tensor) -> Prediction:
        copier.log.append("call")
        taps = {"up3.0": copier.born((text + 1).half()), "mid.0": copier.born(latents.flatten(2))}
        return Prediction(copier.born((latents * 2).half()), taps)

    latents, text = torch.arange(rows * 4.0).view(rows, 1, 2, 2), torch.arange(rows * 6.0).view(rows, 2, 3)
    kept = []
    for offset in (0.0, 1000.0):
        found = in_batches(engine, latents + offset, 7.0, text + offset, batch, lambda _device: ring)
        kept.append((found, latents + offset, text + offset))
    for whole, given_latents, given_text in kept:
        expected = {"noise": given_latents * 2, "up3.0": given_text + 1, "mid.0": given_latents.flatten(2)}
        arrived = {"noise": whole.noise, **whole.taps}
        assert list(arrived) == list(expected)
        for name, value in arrived.items():
            assert value.device.type == "cpu"
            assert value.dtype == torch.float32
            assert torch.equal(value, expected[name])
    calls = -(-rows // batch)
    # Each copy is waited for once, and only when the engine has been given the batch after it.
    assert copier.log[: 3 * calls] == ["call", "put", *["call", "put", "wait"] * (calls - 1), "wait"]


def test_an_engine_that_fails_leaves_its_devices_ring_to_others() -> None:
    copier = LateCopier()
    ring = Ring(copier, 2)
    given_rows: list[int] = []

    def engine(latents: Tensor, _timestep: float, _text: Tensor) -> Prediction:
        given_rows.append(len(latents))
        if len(given_rows) == 2:
            raise EngineError("out of luck")
        return Prediction(copier.born(latents), {})

    latents, text = torch.randn(5, 1, 2, 2), torch.zeros(5, 2, 3)
    with pytest.raises(EngineError, match="out of luck"):
        in_batches(engine, latents, 7.0, text, 2, lambda _device: ring)
    again = in_batches(engine, latents, 7.0, text, 2, lambda _device: ring)
    assert torch.equal(again.noise, latents)


def test_what_the_cpu_computes_in_one_batch_is_not_copied() -> None:
    made = Prediction(torch.randn(2, 1, 2, 2), {"mid.0": torch.randn(2, 4, 3)})
    found = in_batches(lambda *_given: made, torch.zeros(2, 1, 2, 2), 7.0, torch.zeros(2, 2, 3), 2)
    assert found.noise.data_ptr() == made.noise.data_ptr()
    assert found.taps["mid.0"].data_ptr() == made.taps["mid.0"].data_ptr()
