from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.labels import Labels
from datasets.raycast import render
from datasets.scenes import draw_scene
from engines.backends.onnxruntime import BACKEND
from engines.components import Components
from engines.engine import Engine, Prediction, Tap
from engines.errors import EngineError
from engines.onnx_session import OnnxRuntime
from engines.weights import permuted
from extract.sources import ActivationSource, conditional, latent, matched, patches
from extract.stream import BlockInput, BlockOutput, RecordedModel, stream
from extract.trajectory import denoise, initial_noise

STEPS = 4
GUIDANCE = 3.0
PROMPTS = [
    "a red sphere on a sand floor with a blue wall and light from the left",
    "an orange cone on a snow floor with a mint wall and light from the right",
    "a black box on a grass floor with a pink wall and light from the left",
    "a cyan cylinder on a clay floor with a white wall and light from the right",
]
SEEDS = [11, 22, 33, 44]
LAYERS = ("down0.0", "mid.0", "up3.2")

Make = Callable[..., RecordedModel]


class Watched:
    """An engine that remembers what it was given."""

    def __init__(
        self, engine: Engine, spoil: Callable[[int, Prediction], None] | None = None
    ) -> None:
        self.engine = engine
        self.spoil = spoil
        self.calls: list[tuple[Tensor, float, Tensor]] = []

    def __call__(self, latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        prediction = self.engine(latents, timestep, text)
        if self.spoil:
            self.spoil(len(self.calls), prediction)
        self.calls.append((latents.clone(), timestep, text.clone()))
        return prediction


class Recorder:
    def __init__(self) -> None:
        self.seen: dict[tuple[int, str, str], Tensor] = {}
        self.order: list[tuple[int, str, str]] = []
        self.labels: list[Labels] = []

    def update(self, step: int, network: str, layer: str, activation: Tensor) -> None:
        assert not self.labels
        self.order.append((step, network, layer))
        self.seen[step, network, layer] = activation.clone()

    def finish(self, labels: Labels) -> None:
        self.labels.append(labels)


def read(images: Tensor) -> Labels:
    return Labels(images.mean(1), images[:, 0] > 0.5)


@pytest.fixture(scope="module")
def random_engine(
    components: Components, taps: tuple[Tap, ...], cache: Path, onnx_engine: OnnxRuntime
) -> OnnxRuntime:
    assert onnx_engine
    return BACKEND.open(permuted(components.unet, 0), taps, cache, 1)


def watched(random: Engine, layers: Sequence[str], batch: int) -> dict[str, ActivationSource]:
    return {
        "input": latent(),
        "trained": conditional(layers),
        "random-1": matched(random, layers, batch),
    }


@pytest.fixture(scope="module")
def make(components: Components, onnx_engine: OnnxRuntime, random_engine: OnnxRuntime) -> Make:
    def recorded(
        trained: Engine = onnx_engine, random: Engine = random_engine, batch: int = 16
    ) -> RecordedModel:
        return RecordedModel(
            components, trained, watched(random, LAYERS, batch), STEPS, GUIDANCE, batch
        )

    return recorded


def run(
    recorded: RecordedModel,
    items: slice = slice(None),
    probed: Sequence[int] = range(STEPS),
    noisy: Sequence[int] = (),
) -> tuple[Recorder, BlockOutput, Labels]:
    recorder = Recorder()
    generated, labels = stream(
        recorded, BlockInput(PROMPTS[items], SEEDS[items]), [recorder], probed, read, noisy
    )
    return recorder, generated, labels


def sites() -> list[tuple[str, str]]:
    return [
        ("input", "latent"),
        *((network, layer) for network in ("trained", "random-1") for layer in LAYERS),
    ]


@pytest.mark.parametrize("probed", [(0, 1, 2, 3), (1, 3), (0,)])
def test_every_place_is_seen_once_per_probed_step_and_in_order(
    make: Make, probed: tuple[int, ...]
) -> None:
    recorder, generated, _ = run(make(), slice(0, 1), probed)
    assert recorder.order == [
        (step, network, layer) for step in probed for network, layer in sites()
    ]
    assert torch.equal(generated.images, run(make(), slice(0, 1))[1].images)


def test_the_order_of_layers_is_that_of_computation_whatever_was_asked(
    components: Components, taps: tuple[Tap, ...], onnx_engine: OnnxRuntime
) -> None:
    every = [tap.layer for tap in taps]
    watchers = {"input": latent(), "trained": conditional(every[::-1])}
    recorded = RecordedModel(components, onnx_engine, watchers, steps=2, guidance=1.5, batch=4)
    recorder, _, _ = run(recorded, slice(0, 1), range(2))
    one = [("input", "latent"), *(("trained", layer) for layer in every)]
    assert recorder.order == [(step, *site) for step in range(2) for site in one]


def test_activations_are_those_of_the_conditional_half(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    watched = Watched(onnx_engine)
    recorder, _, _ = run(make(watched))
    text = components.embed(PROMPTS)
    assert len(watched.calls) == STEPS
    for step, (latents, timestep, words) in enumerate(watched.calls):
        assert torch.equal(latents[:4], latents[4:])
        assert torch.equal(words, torch.cat([components.embed([""]).expand(4, -1, -1), text]))
        direct = onnx_engine(latents[:4], timestep, text)
        assert torch.equal(recorder.seen[step, "input", "latent"], patches(latents[:4]))
        for layer in LAYERS:
            assert torch.equal(recorder.seen[step, "trained", layer], direct.taps[layer])


def test_images_are_the_decoded_end_of_the_trajectory_and_labels_are_read_from_them(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    recorder, generated, labels = run(make())
    steps = denoise(
        onnx_engine,
        components.scheduler(STEPS),
        initial_noise(SEEDS, components.latent_shape),
        components.embed(PROMPTS),
        components.embed([""]),
        GUIDANCE,
    )
    assert torch.equal(generated.images, components.decode(list(steps)[-1].latents))
    assert torch.equal(labels.disparity, generated.images.mean(1))
    assert recorder.labels == [labels]


def test_noisy_latents_are_kept_as_the_network_saw_them(
    make: Make, onnx_engine: OnnxRuntime
) -> None:
    watched = Watched(onnx_engine)
    _, generated, _ = run(make(watched), probed=(0,), noisy=(1, 3))
    assert list(generated.noisy) == [1, 3]
    for step, latents in generated.noisy.items():
        assert torch.equal(latents, watched.calls[step][0][4:])


def test_no_batch_and_no_block_changes_a_bit(make: Make) -> None:
    whole, generated, _ = run(make(batch=16))
    for batch in (2, 3):
        recorder, again, _ = run(make(batch=batch))
        assert torch.equal(again.images, generated.images)
        assert all(torch.equal(recorder.seen[key], whole.seen[key]) for key in whole.seen)
    for item in range(len(PROMPTS)):
        recorder, alone, _ = run(make(batch=2), slice(item, item + 1))
        assert torch.equal(alone.images[0], generated.images[item])
        assert all(torch.equal(recorder.seen[key][0], whole.seen[key][item]) for key in whole.seen)


def test_engines_are_never_given_more_rows_than_the_batch(
    make: Make, onnx_engine: OnnxRuntime, random_engine: OnnxRuntime
) -> None:
    trained, random = Watched(onnx_engine), Watched(random_engine)
    run(make(trained, random, batch=3), probed=(0,))
    assert [len(call[0]) for call in trained.calls] == [3, 3, 2] * STEPS
    assert [len(call[0]) for call in random.calls] == [3, 1]


def test_rendered_images_are_noised_to_every_steps_level(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    images = render([draw_scene(5, index) for index in range(2)]).rgb
    watched, recorder = Watched(onnx_engine), Recorder()
    given = BlockInput(PROMPTS[:2], SEEDS[:2], images)
    generated, labels = stream(make(watched), given, [recorder], range(STEPS), read, (2,))
    clean, noise = components.encode(images), initial_noise(SEEDS[:2], components.latent_shape)
    sigmas = components.scheduler(STEPS).sigmas[:STEPS].tolist()
    assert len(watched.calls) == STEPS
    for step, (latents, timestep, text) in enumerate(watched.calls):
        sigma = sigmas[step]
        torch.testing.assert_close(
            latents, (clean + sigma * noise) / (sigma**2 + 1) ** 0.5, rtol=1e-5, atol=1e-6
        )
        assert torch.equal(text, components.embed(PROMPTS[:2]))
        direct = onnx_engine(latents, timestep, text)
        assert all(
            torch.equal(recorder.seen[step, "trained", layer], direct.taps[layer])
            for layer in LAYERS
        )
    assert torch.equal(generated.images, images)
    assert torch.equal(labels.disparity, images.mean(1))
    assert torch.equal(generated.noisy[2], watched.calls[2][0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("step", [0, 2, STEPS - 1])
def test_an_activation_that_is_no_number_is_refused_with_layer_and_step(
    make: Make, onnx_engine: OnnxRuntime, value: float, step: int
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == step:
            prediction.taps["mid.0"][-1, -1, -1] = value

    with pytest.raises(EngineError, match=rf"mid\.0 of the trained network at step {step + 1}\b"):
        run(make(Watched(onnx_engine, spoil)), slice(0, 1), probed=(0, 2))


@pytest.mark.parametrize("half", ["unconditional", "conditional"])
@pytest.mark.parametrize("step", [0, 2, STEPS - 1])
def test_a_noise_prediction_that_is_no_number_is_refused_at_its_step(
    make: Make, onnx_engine: OnnxRuntime, half: str, step: int
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == step:
            prediction.noise[0 if half == "unconditional" else 1, 0, 0, 0] = float("nan")

    with pytest.raises(
        EngineError, match=rf"noise prediction of the trained network at step {step + 1}\b"
    ):
        run(make(Watched(onnx_engine, spoil)), slice(0, 1), probed=(0,))


def test_a_noise_prediction_for_a_rendered_image_that_is_no_number_is_refused(
    make: Make, components: Components, onnx_engine: OnnxRuntime
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == 1:
            prediction.noise[0, 0, 0, 0] = float("inf")

    images = torch.zeros(1, 3, components.image_side, components.image_side)
    given = BlockInput(PROMPTS[:1], SEEDS[:1], images)
    with pytest.raises(EngineError, match=r"noise prediction of the trained network at step 2\b"):
        stream(make(Watched(onnx_engine, spoil)), given, [], range(STEPS), read)


def test_half_precision_activations_are_sound_though_their_sum_is_beyond_its_range(
    make: Make, onnx_engine: OnnxRuntime
) -> None:
    def halved(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        found = onnx_engine(latents, timestep, text)
        large = torch.full_like(found.taps["mid.0"], 60000.0).half()
        return Prediction(found.noise, {**found.taps, "mid.0": large})

    recorder, _, _ = run(make(halved), slice(0, 1), probed=(0,))
    seen = recorder.seen[0, "trained", "mid.0"]
    assert bool((seen == 60000).all())
    assert seen.numel() > 1


def test_a_random_network_that_gives_no_numbers_is_refused_by_name(
    make: Make, random_engine: OnnxRuntime
) -> None:
    def spoil(call: int, prediction: Prediction) -> None:
        if call == 1:
            prediction.taps["up3.2"][0, 0, 0] = float("nan")

    with pytest.raises(EngineError, match=r"up3\.2 of the random-1 network at step 4\b"):
        run(make(random=Watched(random_engine, spoil)), slice(0, 1), probed=(0, 3))


def test_no_activation_outlives_its_step(make: Make) -> None:
    class Ages:
        def __init__(self) -> None:
            self.born: list[tuple[int, weakref.ref[torch.UntypedStorage]]] = []
            self.ages: set[int] = set()

        def update(self, step: int, network: str, layer: str, activation: Tensor) -> None:
            assert (network, layer) in sites()
            self.born.append((step, weakref.ref(activation.untyped_storage())))
            self.ages |= {step - born for born, storage in self.born if storage() is not None}

        def finish(self, labels: Labels) -> None:
            assert len(labels.disparity) == 1

    ages = Ages()
    stream(make(), BlockInput(PROMPTS[:1], SEEDS[:1]), [ages], range(STEPS), read)
    assert ages.ages == {0}
    assert not any(storage() is not None for _, storage in ages.born)


def test_every_reducer_sees_everything(make: Make) -> None:
    first, second = Recorder(), Recorder()
    stream(make(), BlockInput(PROMPTS[:1], SEEDS[:1]), [first, second], range(STEPS), read)
    assert first.order == second.order
    assert len(first.labels) == len(second.labels) == 1


def test_costs_count_every_call(make: Make) -> None:
    _, generated, _ = run(make(batch=3), probed=(1, 2))
    table = generated.cost_table()
    assert table.dtype == torch.float64
    calls = [(0, 0, 8), (1, 0, 8), (1, 1, 4), (2, 0, 8), (2, 1, 4), (3, 0, 8)]
    assert [tuple(row) for row in table[:, :3].int().tolist()] == calls
    assert bool((table[:, 3] > 0).all())
    assert bool((table[:, 4] > 2**20).all())
