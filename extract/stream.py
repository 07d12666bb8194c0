"""Blocks of items x steps x layers -> reducers: every item is denoised once, and no activation outlives its reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import psutil
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from datasets.labels import Labels
from engines.engine import Engine, Prediction
from engines.errors import EngineError
from engines.load import Components
from extract.trajectory import Step, denoise, in_batches, initial_noise, renoise

TRAINED = "trained"
INPUT = "input"
"""The pseudo-network whose only layer is what the network is given."""
LATENT = "latent"
_PATCH = 3
_PROCESS = psutil.Process()


@runtime_checkable
class Reducer(Protocol):
    """Reads the activations of one block as they stream by."""

    def see(self, step: int, network: str, layer: str, activation: Float[Tensor, "n tokens channels"]) -> None:
        """Take what there is to take from an activation at a step (0 to T-1)."""
        ...

    def finish(self, labels: Labels) -> None:
        """The block is painted, and this is what its pictures show."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """The model under study with the networks that are watched on its trajectory."""

    components: Components
    networks: Mapping[str, Engine]
    """The first, ``trained``, drives the trajectory; the others see the same conditional inputs."""
    layers: Collection[str]
    """The layers to read; the engines may have more taps."""
    steps: int
    guidance: float
    batch: int
    """Rows per engine call."""


@dataclass(frozen=True, slots=True)
class Given:
    """What one block is painted from."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    pictures: Float[Tensor, "n 3 h w"] | None = None
    """Rendered pictures to be noised instead of painted; None paints."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one network took for one block at one step."""

    step: int
    network: int
    """Its place among the subject's networks."""
    rows: int
    seconds: float
    resident_bytes: int
    """Memory of the process right after."""


@dataclass(frozen=True, slots=True)
class Painted:
    """What a block gives besides its activations."""

    pictures: Float[Tensor, "n 3 height width"]
    noisy: dict[int, Float[Tensor, "n c h w"]]
    """Latents that the network saw at the steps that were asked for, scaled to unit variance."""
    costs: tuple[Cost, ...]

    def cost_table(self) -> Float[Tensor, "calls 5"]:
        """The costs as numbers: step, network's place among the subject's, rows, seconds, resident bytes."""
        rows = [[c.step, c.network, c.rows, c.seconds, c.resident_bytes] for c in self.costs]
        return torch.tensor(rows, dtype=torch.float64)


def stream(
    subject: Subject,
    given: Given,
    reducers: Sequence[Reducer],
    probed_steps: Sequence[int],
    read: Callable[[Tensor], Labels],
    keep_noisy: Sequence[int] = (),
) -> tuple[Painted, Labels]:
    """Paint one block, hand every activation of the probed steps to the reducers, and label the pictures.

    ``read`` turns the finished pictures into labels. Raises EngineError when a network gives NaN or infinity.
    """
    costs: list[Cost] = []
    noisy: dict[int, Tensor] = {}
    latents = None
    for step in _steps(subject, given, costs):
        latents = step.latents
        # Guidance mixes in the unconditional half: the latents tell whether that one is sound.
        _check(replace(step.prediction, noise=step.latents), TRAINED, step.index)
        if step.index in keep_noisy:
            noisy[step.index] = step.model_input.clone()
        if step.index not in probed_steps:
            continue
        for network, layer, activation in _places(subject, step, costs):
            for reducer in reducers:
                reducer.see(step.index, network, layer, activation)
    assert latents is not None
    pictures = given.pictures if given.pictures is not None else subject.components.decode(latents)
    labels = read(pictures)
    for reducer in reducers:
        reducer.finish(labels)
    return Painted(pictures, noisy, tuple(costs)), labels


def _steps(subject: Subject, given: Given, costs: list[Cost]) -> Iterator[Step]:
    parts = subject.components
    predict = _timed(subject, TRAINED, costs)
    noise = initial_noise(given.seeds, parts.latent_shape)
    text = parts.embed(given.prompts)
    scheduler = parts.scheduler(subject.steps)
    if given.pictures is None:
        return denoise(predict, scheduler, noise, text, parts.embed([""]), subject.guidance)
    return renoise(predict, scheduler, parts.encode(given.pictures), noise, text)


def _places(subject: Subject, step: Step, costs: list[Cost]) -> Iterator[tuple[str, str, Tensor]]:
    yield INPUT, LATENT, patches(step.model_input)
    for layer, activation in step.prediction.taps.items():
        if layer in subject.layers:
            yield TRAINED, layer, activation
    for network in subject.networks:
        if network != TRAINED:
            prediction = _timed(subject, network, costs, step.index)(step.model_input, step.timestep, step.text)
            _check(prediction, network, step.index)
            for layer, activation in prediction.taps.items():
                if layer in subject.layers:
                    yield network, layer, activation


def _timed(
    subject: Subject, network: str, costs: list[Cost], step: int | None = None
) -> Callable[[Tensor, float, Tensor], Prediction]:
    engine = subject.networks[network]
    number = list(subject.networks).index(network)

    def predict(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        started = time.perf_counter()
        prediction = in_batches(engine, latents, timestep, text, subject.batch)
        seconds = time.perf_counter() - started
        at = step if step is not None else sum(cost.network == number for cost in costs)
        costs.append(Cost(at, number, len(latents), seconds, _PROCESS.memory_info().rss))
        return prediction

    return predict


def patches(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n tokens channels"]:
    """The 3 x 3 neighbourhood of every latent pixel as its features: a stronger baseline than the pixel alone."""
    return functional.unfold(latents, _PATCH, padding=_PATCH // 2).mT.contiguous()


def _check(prediction: Prediction, network: str, step: int) -> None:
    for name, value in (("the noise prediction", prediction.noise), *prediction.taps.items()):
        if not bool(torch.isfinite(value.sum())):
            raise EngineError(
                f"NaN or infinity in {name} of the {network} network at step {step + 1}; "
                "check the weights, or use an engine of higher precision"
            )
