"""What else can be watched beside the trained network: each comparison of the paper is a name for ``--compare``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from bench.errors import UserError
from bench.study import Study
from datasets.errors import DatasetError
from engines.cache import default_cache
from engines.engine import Engine, Prediction, Tap, reserved
from engines.prompt import further_rows
from engines.weights import permuted, reinitialised
from extract import sources
from extract.networks import CONVOLUTION, DECODED, INPUT, TRAINED
from extract.sources import ActivationSource
from extract.stream import RecordedModel
from extract.taps import fits, layer_of_convolution


class Deferred:
    """An engine that is opened when it is first needed: what a run watches is known before anything is exported."""

    def __init__(
        self, study: Study, unet: Callable[[], UNet2DConditionModel], taps: Sequence[Tap]
    ) -> None:
        self._study, self._unet, self._taps = study, unet, taps
        self._engine: Engine | None = None

    def open(self) -> Engine:
        """Open it, once."""
        if self._engine is None:
            study = self._study
            opened = study.backend.open(self._unet(), self._taps, default_cache(), study.threads)
            self._engine = reserved(opened, study.config.batch)
        return self._engine

    def close(self) -> None:
        """Let its memory go."""
        self._engine = None

    def __call__(self, latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        """Run the UNet once."""
        return self.open()(latents, timestep, text)


class Networks:
    """The engines of a study, each kept: two comparisons may watch the same network."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.known: dict[str, Deferred] = {}

    def trained(self) -> Deferred:
        """The network that generates. Its convolutions are tapped only where they are compared."""
        convolution = self.study.convolutions if CONVOLUTION in self.study.config.compare else ()
        return self._kept(
            TRAINED, lambda: self.study.components.unet, (*self.study.taps, *convolution)
        )

    def permuted(self, seed: int) -> Deferred:
        """Shuffled weights."""
        return self._kept(
            f"permuted-{seed}", lambda: permuted(self.study.components.unet, seed), self.study.taps
        )

    def reinitialised(self, seed: int) -> Deferred:
        """Weights as before training."""
        unet = self.study.components.unet
        return self._kept(
            f"reinitialised-{seed}", lambda: reinitialised(unet, seed), self.study.taps
        )

    def open(self) -> None:
        """Open all that were asked for. The model's other parts compute where they do from now on."""
        for engine in self.known.values():
            engine.open()
        self.study.components.send(self.study.device)

    def let_weights_go(self) -> None:
        """Give up the model's own weights, gigabytes at full size, if engines keep theirs; nothing is opened after."""
        if self.study.backend.keeps_weights:
            self.study.components.unet.to("meta")

    def close(self) -> None:
        """Let the memory of all go."""
        for engine in self.known.values():
            engine.close()

    def _kept(
        self, name: str, unet: Callable[[], UNet2DConditionModel], taps: Sequence[Tap]
    ) -> Deferred:
        return self.known.setdefault(name, Deferred(self.study, unet, taps))


def alone(study: Study, engine: Engine, rows: int) -> RecordedModel:
    """The trained network and what it is given, with no other network beside it."""
    watchers = {INPUT: sources.latent(), TRAINED: sources.conditional(study.layers)}
    return RecordedModel(
        study.components, engine, watchers, study.config.sampler_steps, study.guidance, rows
    )


def subject_of(study: Study) -> tuple[RecordedModel, Networks]:
    """What a run watches: the trained network, its controls and the chosen comparisons. Nothing is opened yet."""
    config, networks = study.config, Networks(study)
    recorded = alone(study, networks.trained(), config.batch)
    found = dict(recorded.sources)
    for seed in range(config.random_networks):
        found[f"random-{seed + 1}"] = sources.matched(
            networks.permuted(seed), study.layers, config.batch
        )
    # In their own order, which puts what is watched on test images alone last.
    for name, opened in COMPARISONS.items():
        if name in config.compare:
            found |= opened(study, networks)
    return replace(recorded, sources=found), networks


def _own(study: Study, networks: Networks) -> Mapping[str, ActivationSource]:
    return {f"own-{seed + 1}": _along(study, networks.permuted(seed)) for seed in _seeds(study)}


def _reinitialised(study: Study, networks: Networks) -> Mapping[str, ActivationSource]:
    found = {}
    for seed in _seeds(study):
        engine = networks.reinitialised(seed)
        found[f"reinitialised-{seed + 1}"] = sources.matched(
            engine, study.layers, study.config.batch
        )
    return found


def _own_reinitialised(study: Study, networks: Networks) -> Mapping[str, ActivationSource]:
    return {
        f"own reinitialised-{seed + 1}": _along(study, networks.reinitialised(seed))
        for seed in _seeds(study)
    }


def _along(study: Study, engine: Engine) -> ActivationSource:
    config = study.config
    return sources.own(
        engine, study.layers, config.batch, study.components, config.sampler_steps, study.guidance
    )


def _seeds(study: Study) -> range:
    return range(max(1, study.config.random_networks))


def _convolution(study: Study, _: Networks) -> Mapping[str, ActivationSource]:
    chosen = study.config.layers
    layers = [layer_of_convolution(tap) for tap in study.convolutions]
    return {
        CONVOLUTION: sources.convolution(
            [x for x in layers if not chosen or any(fits(x, y) for y in chosen)]
        )
    }


def _decoded(study: Study, _: Networks) -> Mapping[str, ActivationSource]:
    maps = {name: task for name, task in sorted(study.tasks.items()) if not task.per_image}
    if not maps:
        raise UserError(
            f"comparison {DECODED} reads maps and no task is of maps; drop it or add a task like depth"
        )
    # What the labeler cannot see should end the run before anything is generated.
    blank = study.reader(torch.zeros(1, 3, *[int(study.components.vae.config.sample_size)] * 2))
    for name, task in maps.items():
        try:
            task.target(blank)
        except DatasetError as error:
            raise UserError(
                f"comparison {DECODED} shows unfinished images to the labeler, which knows nothing of {name}; "
                "drop the comparison or the task"
            ) from error

    def read(images: Tensor) -> Tensor:
        labels = study.reader(images)
        return (
            torch.cat([task.target(labels).double() for task in maps.values()], dim=1).flatten(2).mT
        )

    return {DECODED: sources.decoded(study.components, read)}


COMPARISONS: dict[str, Callable[[Study, Networks], Mapping[str, ActivationSource]]] = {
    "own": _own,
    "reinitialised": _reinitialised,
    "own-reinitialised": _own_reinitialised,
    "vae": lambda study, _: {"vae": sources.decoder(study.components)},
    CONVOLUTION: _convolution,
    "text": lambda study, _: {"text": sources.text(further_rows(study.components.unet.config))},
    "unconditional": lambda study, _: {"unconditional": sources.unconditional(study.layers)},
    DECODED: _decoded,
}
