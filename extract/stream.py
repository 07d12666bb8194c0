"""Blocks of items x steps x layers -> reducers: every item is denoised once, and no activation outlives its reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol, runtime_checkable

import psutil
import torch
from jaxtyping import Float
from torch import Tensor

from datasets.labels import Labels
from engines.components import Components
from engines.engine import Engine, Prediction
from engines.errors import EngineError
from extract.networks import TRAINED
from extract.sources import ActivationSource, Start, Watch
from extract.trajectory import Step, denoise, in_batches, initial_noise, renoise

_PROCESS = psutil.Process()


@runtime_checkable
class Reducer(Protocol):
    """Reads the activations of one block as they stream by."""

    def see(
        self, step: int, network: str, layer: str, activation: Float[Tensor, "n tokens channels"]
    ) -> None:
        """Take what there is to take from an activation at a step (0 to T-1)."""
        ...

    def finish(self, labels: Labels) -> None:
        """The block is generated, and this is what its images show."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """The model under study, and what is watched on its trajectory."""

    components: Components
    engine: Engine
    """Drives the trajectory."""
    watchers: Mapping[str, ActivationSource]
    """By the name of the network that each stands for."""
    steps: int
    guidance: float
    batch: int
    """Rows per engine call."""

    @property
    def timed(self) -> tuple[str, ...]:
        """Names in the table of costs: the generating itself, then every watcher that computes something."""
        return TRAINED, *(name for name, watcher in self.watchers.items() if watcher.rows)

    @property
    def fitted(self) -> RecordedModel:
        """Without what no probe is fit to, which comes last."""
        return replace(
            self,
            watchers={name: watcher for name, watcher in self.watchers.items() if watcher.fitted},
        )


@dataclass(frozen=True, slots=True)
class BlockInput:
    """What one block is generated from."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    images: Float[Tensor, "n 3 h w"] | None = None
    """Rendered images to be noised instead of generated; None generates."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What generating or one watcher took for one block at one step."""

    step: int
    network: int
    """Its place among the subject's timed names."""
    rows: int
    seconds: float
    resident_bytes: int
    """Memory of the process right after."""


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """What a block gives besides its activations."""

    images: Float[Tensor, "n 3 height width"]
    noisy: dict[int, Float[Tensor, "n c h w"]]
    """Latents that the network saw at the steps that were asked for, scaled to unit variance."""
    costs: tuple[Cost, ...]

    def cost_table(self) -> Float[Tensor, "calls 5"]:
        """The costs as numbers: step, network's place among the timed, rows, seconds, resident bytes."""
        rows = [[c.step, c.network, c.rows, c.seconds, c.resident_bytes] for c in self.costs]
        return torch.tensor(rows, dtype=torch.float64)


def stream(
    recorded: RecordedModel,
    given: BlockInput,
    reducers: Sequence[Reducer],
    probed_steps: Sequence[int],
    read: Callable[[Tensor], Labels],
    keep_noisy: Sequence[int] = (),
) -> tuple[BlockOutput, Labels]:
    """Generate one block, hand every activation of the probed steps to the reducers, and label the images.

    ``read`` turns the finished images into labels. Raises EngineError when a network gives NaN or infinity.
    """
    costs: list[Cost] = []
    noisy: dict[int, Tensor] = {}
    parts = recorded.components
    start = Start(
        initial_noise(given.seeds, parts.latent_shape),
        parts.embed(given.prompts),
        parts.embed([""]),
    )
    watches = {name: watcher.begin(start) for name, watcher in recorded.watchers.items()}
    latents, looked = start.noise, -1
    for step in _steps(recorded, given, start, costs):
        latents = step.latents
        # The clean latents tell whether the noise prediction is sound, both halves of it: guidance mixes them. Rendered
        # images' own latents would not.
        computed = {
            "the noise prediction": step.clean,
            "the latents": latents,
            **step.prediction.taps,
        }
        _check(computed, TRAINED, step.index)
        if step.index in keep_noisy:
            noisy[step.index] = step.model_input.clone()
        if step.index not in probed_steps:
            continue
        for network, watch in watches.items():
            rows = recorded.watchers[network].rows_between(looked, step.index) * len(
                step.model_input
            )
            for layer, activation in _seen(recorded, network, watch, step, rows, costs).items():
                for reducer in reducers:
                    reducer.see(step.index, network, layer, activation)
        looked = step.index
    images = given.images if given.images is not None else parts.decode(latents)
    labels = read(images)
    for reducer in reducers:
        reducer.finish(labels)
    return BlockOutput(images, noisy, tuple(costs)), labels


def _steps(
    recorded: RecordedModel, given: BlockInput, start: Start, costs: list[Cost]
) -> Iterator[Step]:
    parts = recorded.components
    scheduler = parts.scheduler(recorded.steps)
    calls = count()

    def predict(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        with _timed(costs, next(calls), 0, len(latents)):
            return in_batches(recorded.engine, latents, timestep, text, recorded.batch)

    if given.images is None:
        return denoise(predict, scheduler, start.noise, start.text, start.empty, recorded.guidance)
    return renoise(predict, scheduler, parts.encode(given.images), start.noise, start.text)


def _seen(
    recorded: RecordedModel, network: str, watch: Watch, step: Step, rows: int, costs: list[Cost]
) -> Mapping[str, Tensor]:
    if not rows:
        # Of what the generating network has computed, which is checked.
        return watch(step)
    with _timed(costs, step.index, recorded.timed.index(network), rows):
        activations = watch(step)
    _check(activations, network, step.index)
    return activations


@contextmanager
def _timed(costs: list[Cost], step: int, network: int, rows: int) -> Iterator[None]:
    started = time.perf_counter()
    yield
    costs.append(
        Cost(step, network, rows, time.perf_counter() - started, _PROCESS.memory_info().rss)
    )


def _check(values: Mapping[str, Tensor], network: str, step: int) -> None:
    for name, value in values.items():
        # The quick sum first; finite values may overflow it, but not the slow one in double precision.
        if not any(bool(torch.isfinite(value.sum(dtype=dtype))) for dtype in (None, torch.float64)):
            raise EngineError(
                f"NaN or infinity in {name} of the {network} network at step {step + 1}; "
                "check the weights, or use an engine of higher precision"
            )
