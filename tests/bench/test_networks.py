"""The networks that a run records, by the names of its baselines, and when engines are opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import config as config_module
from bench.config import Config
from bench.errors import UserError
from bench.networks import BASELINES, Deferred, Networks, alone, recorded_model
from bench.study import Study, open_study
from engines.cache import hash_of_weights
from engines.denoiser import Denoiser
from engines.engine import Backend, Engine, Prediction, Tap
from engines.weights import permuted, reinitialised
from extract.sources import Start
from extract.trajectory import Step, denoise, initial_noise

BASE = {
    "engine": "torch_eager",
    "limit": 24,
    "sampler_steps": 3,
    "layers": ("mid", "up3.0"),
    "threads": 1,
}


class Openings:
    """A backend that records what is opened."""

    def __init__(self, study: Study) -> None:
        self.opened: list[tuple[str, tuple[str, ...]]] = []
        backend = study.backend

        def opening(denoiser: Denoiser, taps: Sequence[Tap], cache: Path, threads: int) -> Engine:
            self.opened.append(
                (hash_of_weights(denoiser.module.state_dict()), tuple(tap.layer for tap in taps))
            )
            return backend.open(denoiser, taps, cache, threads)

        self.study = replace(study, backend=replace(backend, open=opening))


@pytest.fixture(scope="module")
def opened_study() -> Study:
    return open_study(Config(**BASE))


@pytest.fixture
def study_of(opened_study: Study) -> object:
    """The study under other options that change no component."""

    def study(**changes: object) -> Study:
        return replace(opened_study, config=replace(opened_study.config, **changes))

    return study


def test_names_on_the_command_line_are_those_that_can_be_recorded_and_the_decoded_come_last() -> (
    None
):
    assert tuple(BASELINES) == config_module.BASELINES
    assert config_module.BASELINES[-1] == "decoded"


def test_everything_together_has_one_source_per_network_and_what_is_not_fit_to_is_last(
    study_of: object,
) -> None:
    recorded, _ = recorded_model(study_of(baselines=config_module.BASELINES, random_networks=2))
    assert list(recorded.sources) == [
        *(
            "input",
            "clean",
            "trained",
            "random-1",
            "random-2",
            "own-1",
            "own-2",
            "reinitialised-1",
            "reinitialised-2",
        ),
        *(
            "own reinitialised-1",
            "own reinitialised-2",
            "vae",
            "convolution",
            "text",
            "unconditional",
            "decoded",
        ),
    ]
    assert list(recorded.fitted.sources) == list(recorded.sources)[:-1]


def test_the_order_in_which_baselines_are_named_changes_nothing(study_of: object) -> None:
    names = ("decoded", "text", "own")
    first, second = (recorded_model(study_of(baselines=order))[0] for order in (names, names[::-1]))
    assert list(first.sources) == list(second.sources)
    assert list(first.sources)[-1] == "decoded"


def test_a_run_without_baselines_records_the_trained_network_and_its_control(
    study_of: object,
) -> None:
    assert list(recorded_model(study_of())[0].sources) == ["input", "clean", "trained", "random-1"]
    assert list(recorded_model(study_of(random_networks=0))[0].sources) == [
        "input",
        "clean",
        "trained",
    ]
    # A baseline of random networks has one, whether or not it is a control too.
    bare = recorded_model(study_of(random_networks=0, baselines=("own", "reinitialised")))[0]
    assert list(bare.sources) == ["input", "clean", "trained", "own-1", "reinitialised-1"]


def test_a_model_alone_has_the_options_of_the_study(study_of: object, eager: Engine) -> None:
    study = study_of(guidance=2.5)
    recorded = alone(study, eager, 5)
    assert list(recorded.sources) == ["input", "clean", "trained"]
    assert recorded.engine is eager
    assert (recorded.steps, recorded.guidance, recorded.batch) == (3, 2.5, 5)
    assert recorded.components is study.components


def test_nothing_is_opened_before_it_is_needed_and_shared_networks_are_opened_once(
    study_of: object,
) -> None:
    openings = Openings(
        study_of(baselines=("own", "reinitialised", "own-reinitialised"), random_networks=2)
    )
    _, networks = recorded_model(openings.study)
    assert openings.opened == []
    networks.open()
    networks.open()
    own = openings.study.components.denoiser
    expected = [own, *(make(own, seed) for seed in (0, 1) for make in (permuted, reinitialised))]
    weights = [weights for weights, _ in openings.opened]
    assert sorted(weights) == sorted(
        hash_of_weights(network.module.state_dict()) for network in expected
    )
    networks.close()
    networks.open()
    assert [weights for weights, _ in openings.opened] == weights * 2


@pytest.mark.parametrize("engine", ["onnxruntime", "torch_eager"])
def test_the_models_weights_go_where_engines_have_their_own(engine: str) -> None:
    study = open_study(Config(**BASE | {"engine": engine}))
    _, networks = recorded_model(study)
    latents, text = (
        torch.randn(2, *study.components.latent_shape),
        study.components.embed(["a", "b"]),
    )
    before = study.opened()(latents, 3.0, text)
    networks.open()
    assert not any(weight.is_meta for weight in study.components.denoiser.module.parameters())
    networks.release_weights()
    assert {weight.is_meta for weight in study.components.denoiser.module.parameters()} == {
        study.backend.keeps_weights
    }
    after = networks.trained()(latents, 3.0, text)
    assert torch.equal(after.noise, before.noise)
    assert all(torch.equal(after.taps[layer], tap) for layer, tap in before.taps.items())


def test_convolutions_are_tapped_in_the_trained_network_alone_and_only_as_a_baseline(
    study_of: object,
) -> None:
    for baselines in ((), ("convolution",)):
        openings = Openings(study_of(baselines=baselines))
        recorded_model(openings.study)[1].open()
        (_, trained), (_, control) = openings.opened
        assert any(layer.startswith("conv.") for layer in trained) is bool(baselines)
        assert not any(layer.startswith("conv.") for layer in control)
        assert tuple(layer for layer in trained if not layer.startswith("conv.")) == control


def test_a_deferred_engine_is_the_engine_it_stands_for(study_of: object, eager: Engine) -> None:
    openings = Openings(study_of())
    study = openings.study
    deferred = Deferred(study, lambda: study.components.denoiser, study.taps)
    latents = torch.randn(
        2, *study.components.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    text = study.components.embed(["a red sphere", "a blue box"])
    for _ in range(2):
        prediction, expected = deferred(latents, 500.0, text), eager(latents, 500.0, text)
        assert torch.equal(prediction.noise, expected.noise)
        assert list(prediction.taps) == list(expected.taps)
        assert all(torch.equal(prediction.taps[layer], tap) for layer, tap in expected.taps.items())
    assert len(openings.opened) == 1
    deferred.close()
    assert deferred.open() is deferred.open()
    assert len(openings.opened) == 2


def test_networks_of_one_seed_are_one_network(study_of: object) -> None:
    networks = Networks(study_of())
    assert networks.permuted(0) is networks.permuted(0)
    assert networks.trained() is networks.trained()
    different = [
        networks.trained(),
        *(n(s) for n in (networks.permuted, networks.reinitialised) for s in (0, 1)),
    ]
    assert len({id(network) for network in different}) == len(networks.engines) == 5


@pytest.fixture(scope="module")
def trajectory(opened_study: Study) -> tuple[Start, list[Step]]:
    parts = opened_study.components
    start = Start(
        initial_noise([1, 2], parts.latent_shape),
        parts.embed(["a red sphere", "a blue box"]),
        parts.embed([""]),
    )
    networks = Networks(
        replace(opened_study, config=replace(opened_study.config, baselines=("convolution",)))
    )
    inputs = start.noise, start.conditioning, start.empty
    return start, list(denoise(networks.trained(), parts.sampler(3), *inputs, 3.0))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (("mid", "up3.0"), {"mid.0", "mid.1", "up3.0"}),
        (("up3",), {"up3.0", "up3.1", "up3.2"}),
        ((), None),
    ],
)
def test_convolutions_are_those_of_the_chosen_layers(
    study_of: object,
    trajectory: tuple[Start, list[Step]],
    layers: tuple[str, ...],
    expected: set[str] | None,
) -> None:
    start, steps = trajectory
    study = study_of(baselines=("convolution",), layers=layers)
    record = recorded_model(study)[0].sources["convolution"].begin(start)
    every = {tap.layer.removeprefix("conv.") for tap in study.convolutions}
    assert set(record(steps[0])) == (every if expected is None else expected)


def test_what_is_decoded_is_what_the_labeler_sees_in_the_image(
    study_of: object, trajectory: tuple[Start, list[Step]]
) -> None:
    start, steps = trajectory
    study = study_of(baselines=("decoded",))
    record = recorded_model(study)[0].sources["decoded"].begin(start)
    for step in steps:
        activations = record(step)
        for layer, latents in (("latent", step.latents), ("predicted", step.clean)):
            labels = study.reader(study.components.decode(latents))
            # Depth, then saliency, whatever the order of the tasks.
            for column, values in enumerate((labels.disparity, labels.saliency)):
                assert torch.equal(activations[layer][..., column], values.double().flatten(1))
        assert activations["latent"].shape[-1] == 2


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        (("colour",), "baseline decoded predicts maps and no task is of maps"),
        (("depth", "shadow"), "the labeler, which has no labels of shadow"),
    ],
)
def test_what_no_labeler_sees_in_an_unfinished_image_is_refused_before_anything_is_generated(
    tasks: tuple[str, ...], sentence: str
) -> None:
    study = open_study(
        Config(**BASE | {"source": "rendered", "tasks": tasks, "baselines": ("decoded",)})
    )
    with pytest.raises(UserError, match=sentence):
        recorded_model(study)


def test_an_engine_that_is_built_for_rows_is_told_those_of_the_run() -> None:
    class Built:
        expected = 0

        def reserve(self, rows: int) -> None:
            self.expected = rows

        def __call__(self, *_given: object) -> Prediction:
            raise AssertionError

    backend = Backend(unavailable=lambda: None, open=lambda *_given: Built())
    study: Any = SimpleNamespace(backend=backend, threads=1, config=SimpleNamespace(batch=6))
    engine = Deferred(study, lambda: None, ()).open()  # type: ignore[arg-type, return-value]
    assert isinstance(engine, Built)
    assert engine.expected == 6
