"""One pass over a block: which activations reach the reducers, and what is returned."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.grid import Grid
from datasets.labels import Labels
from datasets.raycast import render
from datasets.scenes import draw_scene
from engines.backends.onnxruntime import BACKEND
from engines.components import Components
from engines.conditioning import Conditioning
from engines.engine import Engine, Prediction, Tap
from engines.errors import EngineError
from engines.onnx_session import OnnxRuntime
from engines.weights import permuted
from extract.sources import conditional, latent, matched, patches
from extract.stream import BlockInput, BlockOutput, RecordedModel, stream
from extract.trajectory import denoise, initial_noise
from tests.extract.recording import PROMPTS, SEEDS, Recorder, RecordingEngine, label

STEPS = 4
GUIDANCE = 3.0
LAYERS = ("down0.0", "mid.0", "up3.2")

Make = Callable[..., RecordedModel]


@pytest.fixture(scope="module")
def random_engine(
    components: Components, taps: tuple[Tap, ...], cache: Path, onnx_engine: OnnxRuntime
) -> OnnxRuntime:
    assert onnx_engine
    return BACKEND.open(permuted(components.denoiser, 0), taps, cache, 1)


@pytest.fixture(scope="module")
def make(components: Components, onnx_engine: OnnxRuntime, random_engine: OnnxRuntime) -> Make:
    def recorded(
        trained: Engine = onnx_engine, random: Engine = random_engine, batch: int = 16
    ) -> RecordedModel:
        sources = {
            "input": latent(),
            "trained": conditional(LAYERS),
            "random-1": matched(random, LAYERS, batch),
        }
        return RecordedModel(components, trained, sources, STEPS, GUIDANCE, batch)

    return recorded


def run(
    recorded: RecordedModel,
    items: slice = slice(None),
    probed: Sequence[int] = range(STEPS),
    noisy: Sequence[int] = (),
) -> tuple[Recorder, BlockOutput, Labels]:
    recorder = Recorder()
    block = BlockInput(PROMPTS[items], SEEDS[items])
    output, labels = stream(recorded, block, [recorder], probed, label, noisy)
    return recorder, output, labels


def sites() -> list[tuple[str, str]]:
    return [
        ("input", "latent"),
        *((network, layer) for network in ("trained", "random-1") for layer in LAYERS),
    ]


@pytest.mark.parametrize("probed", [(0, 1, 2, 3), (1, 3), (0,)])
def test_every_site_is_recorded_once_per_probed_step_and_in_order(
    make: Make, probed: tuple[int, ...]
) -> None:
    recorder, output, _ = run(make(), slice(0, 1), probed)
    assert recorder.order == [
        (step, network, layer) for step in probed for network, layer in sites()
    ]
    assert torch.equal(output.images, run(make(), slice(0, 1))[1].images)


def test_the_order_of_layers_is_that_of_computation(
    components: Components, taps: tuple[Tap, ...], onnx_engine: OnnxRuntime
) -> None:
    every = [tap.layer for tap in taps]
    sources = {"input": latent(), "trained": conditional(every[::-1])}
    recorded = RecordedModel(components, onnx_engine, sources, steps=2, guidance=1.5, batch=4)
    recorder, _, _ = run(recorded, slice(0, 1), range(2))
    step_sites = [("input", "latent"), *(("trained", layer) for layer in every)]
    assert recorder.order == [(step, *site) for step in range(2) for site in step_sites]


def test_activations_are_those_of_the_conditional_half(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    engine = RecordingEngine(onnx_engine)
    recorder, _, _ = run(make(engine))
    text = components.embed(PROMPTS)
    assert len(engine.calls) == STEPS
    for step, (latents, timestep, words) in enumerate(engine.calls):
        assert torch.equal(latents[:4], latents[4:])
        assert words == Conditioning.joined([components.embed([""]).expand(4), text])
        direct = onnx_engine(latents[:4], timestep, text)
        assert torch.equal(recorder.activations[step, "input", "latent"], patches(latents[:4]))
        for layer in LAYERS:
            assert torch.equal(recorder.activations[step, "trained", layer], direct.taps[layer])


def test_images_are_the_decoded_final_latents_and_labels_are_of_these_images(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    recorder, output, labels = run(make())
    steps = denoise(
        onnx_engine,
        components.sampler(STEPS),
        initial_noise(SEEDS, components.latent_shape),
        components.embed(PROMPTS),
        components.embed([""]),
        GUIDANCE,
    )
    assert torch.equal(output.images, components.decode(list(steps)[-1].latents))
    assert torch.equal(labels.disparity, output.images.mean(1))
    assert recorder.labels == [labels]


def test_noisy_latents_are_the_inputs_of_the_network(make: Make, onnx_engine: OnnxRuntime) -> None:
    engine = RecordingEngine(onnx_engine)
    _, output, _ = run(make(engine), probed=(0,), noisy=(1, 3))
    assert list(output.noisy) == [1, 3]
    for step, latents in output.noisy.items():
        assert torch.equal(latents, engine.calls[step][0][4:])


def test_no_batch_and_no_block_changes_a_bit(make: Make) -> None:
    whole, output, _ = run(make(batch=16))
    for batch in (2, 3):
        recorder, again, _ = run(make(batch=batch))
        assert torch.equal(again.images, output.images)
        assert all(
            torch.equal(recorder.activations[key], whole.activations[key])
            for key in whole.activations
        )
    for item in range(len(PROMPTS)):
        recorder, alone, _ = run(make(batch=2), slice(item, item + 1))
        assert torch.equal(alone.images[0], output.images[item])
        assert all(
            torch.equal(recorder.activations[key][0], whole.activations[key][item])
            for key in whole.activations
        )


def test_engines_never_compute_more_rows_than_the_batch(
    make: Make, onnx_engine: OnnxRuntime, random_engine: OnnxRuntime
) -> None:
    trained, random = RecordingEngine(onnx_engine), RecordingEngine(random_engine)
    run(make(trained, random, batch=3), probed=(0,))
    assert [len(call[0]) for call in trained.calls] == [3, 3, 2] * STEPS
    assert [len(call[0]) for call in random.calls] == [3, 1]


def test_rendered_images_are_noised_to_every_steps_level(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    images = render([draw_scene(5, index) for index in range(2)]).rgb
    engine, recorder = RecordingEngine(onnx_engine), Recorder()
    block = BlockInput(PROMPTS[:2], SEEDS[:2], images)
    output, labels = stream(make(engine), block, [recorder], range(STEPS), label, (2,))
    clean, noise = components.encode(images), initial_noise(SEEDS[:2], components.latent_shape)
    sigmas = components.sampler(STEPS).scheduler.sigmas[:STEPS].tolist()
    assert len(engine.calls) == STEPS
    for step, (latents, timestep, text) in enumerate(engine.calls):
        sigma = sigmas[step]
        torch.testing.assert_close(
            latents, (clean + sigma * noise) / (sigma**2 + 1) ** 0.5, rtol=1e-5, atol=1e-6
        )
        assert text == components.embed(PROMPTS[:2])
        direct = onnx_engine(latents, timestep, text)
        assert all(
            torch.equal(recorder.activations[step, "trained", layer], direct.taps[layer])
            for layer in LAYERS
        )
    assert torch.equal(output.images, images)
    assert torch.equal(labels.disparity, images.mean(1))
    assert torch.equal(output.noisy[2], engine.calls[2][0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("step", [0, 2, STEPS - 1])
def test_an_activation_that_is_not_finite_is_refused_with_layer_and_step(
    make: Make, onnx_engine: OnnxRuntime, value: float, step: int
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == step:
            prediction.taps["mid.0"][-1, -1, -1] = value

    with pytest.raises(EngineError, match=rf"mid\.0 of the trained network at step {step + 1}\b"):
        run(make(RecordingEngine(onnx_engine, spoil)), slice(0, 1), probed=(0, 2))


@pytest.mark.parametrize("half", ["unconditional", "conditional"])
@pytest.mark.parametrize("step", [0, 2, STEPS - 1])
def test_a_noise_prediction_that_is_not_finite_is_refused_at_its_step(
    make: Make, onnx_engine: OnnxRuntime, half: str, step: int
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == step:
            prediction.noise[0 if half == "unconditional" else 1, 0, 0, 0] = float("nan")

    with pytest.raises(
        EngineError, match=rf"noise prediction of the trained network at step {step + 1}\b"
    ):
        run(make(RecordingEngine(onnx_engine, spoil)), slice(0, 1), probed=(0,))


def test_a_noise_prediction_for_a_rendered_image_that_is_not_finite_is_refused(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == 1:
            prediction.noise[0, 0, 0, 0] = float("inf")

    images = torch.zeros(1, 3, *components.image_size)
    block = BlockInput(PROMPTS[:1], SEEDS[:1], images)
    with pytest.raises(EngineError, match=r"noise prediction of the trained network at step 2\b"):
        stream(make(RecordingEngine(onnx_engine, spoil)), block, [], range(STEPS), label)


def test_half_precision_activations_may_have_a_sum_beyond_their_range(
    make: Make, onnx_engine: OnnxRuntime
) -> None:
    def halved(latents: Tensor, timestep: float, text: Conditioning) -> Prediction:
        prediction = onnx_engine(latents, timestep, text)
        large = torch.full_like(prediction.taps["mid.0"], 60000.0).half()
        return Prediction(prediction.noise, {**prediction.taps, "mid.0": large})

    recorder, _, _ = run(make(halved), slice(0, 1), probed=(0,))
    activation = recorder.activations[0, "trained", "mid.0"]
    assert bool((activation == 60000).all())
    assert activation.numel() > 1


def test_a_random_network_that_is_not_finite_is_refused_by_name(
    make: Make, random_engine: OnnxRuntime
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == 1:
            prediction.taps["up3.2"][0, 0, 0] = float("nan")

    with pytest.raises(EngineError, match=r"up3\.2 of the random-1 network at step 4\b"):
        run(make(random=RecordingEngine(random_engine, spoil)), slice(0, 1), probed=(0, 3))


def test_no_activation_is_kept_beyond_its_step(make: Make) -> None:
    class Ages:
        def __init__(self) -> None:
            self.storages: list[tuple[int, weakref.ref[torch.UntypedStorage]]] = []
            self.ages: set[int] = set()

        def update(
            self, step: int, network: str, layer: str, activation: Tensor, grid: Grid
        ) -> None:
            assert (network, layer) in sites()
            self.storages.append((step, weakref.ref(activation.untyped_storage())))
            self.ages |= {step - first for first, storage in self.storages if storage() is not None}

        def finish(self, labels: Labels) -> None:
            assert len(labels.disparity) == 1

    ages = Ages()
    stream(make(), BlockInput(PROMPTS[:1], SEEDS[:1]), [ages], range(STEPS), label)
    assert ages.ages == {0}
    assert not any(storage() is not None for _, storage in ages.storages)


def test_every_reducer_gets_all_activations(make: Make) -> None:
    first, second = Recorder(), Recorder()
    stream(make(), BlockInput(PROMPTS[:1], SEEDS[:1]), [first, second], range(STEPS), label)
    assert first.order == second.order
    assert len(first.labels) == len(second.labels) == 1


def test_costs_count_every_call(make: Make) -> None:
    _, output, _ = run(make(batch=3), probed=(1, 2))
    table = output.cost_table()
    assert table.dtype == torch.float64
    calls = [(0, 0, 8), (1, 0, 8), (1, 1, 4), (2, 0, 8), (2, 1, 4), (3, 0, 8)]
    assert [tuple(row) for row in table[:, :3].int().tolist()] == calls
    assert bool((table[:, 3] > 0).all())
    assert bool((table[:, 4] > 2**20).all())
