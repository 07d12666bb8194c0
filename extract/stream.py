"""Generate blocks of items once and pass every activation to reducers; none is kept.

Everything stays on the device of the engine: the latents, the predictions and what the reducers
make of them. A block waits for its device four times: for its prompts, for its checks and times,
for its images and, in the code that calls this, for what the reducers have made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.grid import Grid
from datasets.labels import Labels
from engines.components import Components
from engines.conditioning import Conditioning
from engines.engine import Engine, Prediction
from engines.errors import EngineError
from engines.host_copy import to_host
from extract.checks import Checks, Clock
from extract.networks import TRAINED
from extract.sketch import Sketch
from extract.sources import ActivationSource, Start
from extract.trajectory import Step, denoise, in_batches, initial_noise, renoise


@runtime_checkable
class Reducer(Protocol):
    """Reduces the activations of one block as they are computed."""

    def update(
        self,
        step: int,
        network: str,
        layer: str,
        activation: Float[Tensor, "n tokens channels"],
        grid: Grid,
    ) -> None:
        """Process the activation of a layer, whose tokens form ``grid``, at a step (0 to T-1).

        It is on the engine's device and in the engine's precision, and often a view of a batch.
        """
        ...

    def finish(self, labels: Labels) -> None:
        """Process the labels of the block's images, after its last activation."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """The model under study, and what is recorded along its trajectory."""

    components: Components
    engine: Engine
    """The engine that generates."""
    sources: Mapping[str, ActivationSource]
    """By network name."""
    steps: int
    guidance: float | None
    """None without a second half of the batch with the empty prompt."""
    batch: int
    """Rows per engine call."""
    sketch: Sketch | None = None
    """Projects wide activations before they are reduced."""
    _embedded: dict[str, Conditioning] = field(default_factory=dict, repr=False, compare=False)

    @property
    def timed(self) -> tuple[str, ...]:
        """Names in the table of costs: the generating network, then sources that compute."""
        return TRAINED, *(name for name, source in self.sources.items() if source.rows)

    def empty_prompt(self) -> Conditioning:
        """The conditioning of an empty prompt, one row, embedded once and kept on its device."""
        if "" not in self._embedded:
            parts = self.components
            self._embedded[""] = parts.embed([""]).to(parts.device)
        return self._embedded[""]

    @property
    def fitted(self) -> RecordedModel:
        """The same model with only the sources that probes are fit to."""
        sources = {name: source for name, source in self.sources.items() if source.fitted}
        return replace(self, sources=sources)


@dataclass(frozen=True, slots=True)
class BlockInput:
    """The prompts and seeds of one block, or its rendered images."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    images: Float[Tensor, "n 3 h w"] | None = None
    """Rendered images to noise; if None, images are generated."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of generating, or of one source, for one block at one step."""

    step: int
    network: int
    """Index into :attr:`RecordedModel.timed`."""
    rows: int
    seconds: float
    resident_bytes: int
    """Memory of the process when the call returned."""


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """The images, latents and costs of a block."""

    images: Float[Tensor, "n 3 height width"]
    noisy: dict[int, Float[Tensor, "n c h w"]]
    """Model inputs at the requested steps, scaled to unit variance."""
    clean: dict[int, Float[Tensor, "n c h w"]]
    """Predicted clean latents at the same steps."""
    costs: tuple[Cost, ...]

    def cost_table(self) -> Float[Tensor, "calls 5"]:
        """The costs as columns: step, network index, rows, seconds, resident bytes."""
        rows = [[c.step, c.network, c.rows, c.seconds, c.resident_bytes] for c in self.costs]
        return torch.tensor(rows, dtype=torch.float64)


def stream(
    recorded: RecordedModel,
    block: BlockInput,
    reducers: Sequence[Reducer],
    probed_steps: Sequence[int],
    label: Callable[[Tensor], Labels],
    keep_noisy: Sequence[int] = (),
) -> tuple[BlockOutput, Labels]:
    """Generate one block, pass the activations of the probed steps to the reducers, and label it.

    ``label`` maps the finished images to labels; ``keep_noisy`` are the steps whose model inputs
    and predicted clean latents are returned. Raises EngineError when a network computes NaN or
    infinity, or when a layer's tokens form no grid over the image.
    """
    noisy: dict[int, Tensor] = {}
    clean: dict[int, Tensor] = {}
    parts = recorded.components
    start = _start(recorded, block)
    readers = {name: source.begin(start) for name, source in recorded.sources.items()}
    latents, last_read = start.noise, -1
    checks, clock = Checks(parts.device), Clock(parts.device)
    for step in _steps(recorded, block, start, clock):
        latents = step.latents
        # The predicted clean latents show whether both halves of the noise prediction are finite,
        # as guidance mixes them. The latents do not show it where images are rendered.
        computed = {
            "the noise prediction": step.clean,
            "the latents": latents,
            **step.prediction.taps,
        }
        checks.add(computed, TRAINED, step.index)
        if step.index in keep_noisy:
            noisy[step.index] = step.model_input.clone()
            clean[step.index] = step.clean.clone()
        if step.index not in probed_steps:
            continue
        for network, reader in readers.items():
            rows = recorded.sources[network].rows_between(last_read, step.index)
            rows *= len(step.model_input)
            if rows:
                with clock.timing(step.index, network, rows):
                    activations = reader(step)
                checks.add(activations, network, step.index)
            else:
                # These come from the generating network and are checked already.
                activations = reader(step)
            for layer, activation in activations.items():
                if recorded.sketch is not None:
                    activation = recorded.sketch(layer, activation)
                grid = _grid(network, layer, activation, latents)
                for reducer in reducers:
                    reducer.update(step.index, network, layer, activation, grid)
        last_read = step.index
    checks.finish()
    costs = tuple(
        Cost(x.step, recorded.timed.index(x.network), x.rows, x.seconds, x.resident_bytes)
        for x in clock.calls
    )
    images = block.images if block.images is not None else parts.decode(latents)
    labels = label(images)
    for reducer in reducers:
        reducer.finish(labels)
    return BlockOutput(images, to_host(noisy), to_host(clean), costs), labels


def _start(recorded: RecordedModel, block: BlockInput) -> Start:
    """The block's noise and prompts, on the device of the model's parts."""
    parts = recorded.components
    noise = initial_noise(block.seeds, parts.latent_shape).to(parts.device, non_blocking=True)
    return Start(noise, parts.embed(block.prompts).to(parts.device), recorded.empty_prompt())


def _steps(
    recorded: RecordedModel, block: BlockInput, start: Start, clock: Clock
) -> Iterator[Step]:
    parts = recorded.components
    sampler = parts.sampler(recorded.steps)
    calls = count()

    def predict(latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        with clock.timing(next(calls), TRAINED, len(latents)):
            return in_batches(recorded.engine, latents, timestep, conditioning, recorded.batch)

    if block.images is None:
        return denoise(
            predict, sampler, start.noise, start.conditioning, start.empty, recorded.guidance
        )
    clean = parts.encode(block.images).to(parts.device)
    return renoise(predict, sampler, clean, start.noise, start.conditioning)


def _grid(network: str, layer: str, activation: Tensor, latents: Tensor) -> Grid:
    try:
        return Grid.of(activation.shape[1], *latents.shape[-2:])
    except ValueError as error:
        raise EngineError(
            f"the layer {layer} of the {network} network cannot be read per token: {error} "
            "latents; choose other --layers or --baselines"
        ) from error
