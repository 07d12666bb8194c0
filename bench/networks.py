"""The networks that a run records beside the trained one: controls and ``--baselines``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bench.errors import UserError
from bench.study import Study
from datasets.errors import DatasetError
from engines.cache import default_cache
from engines.conditioning import Conditioning
from engines.denoiser import Denoiser
from engines.engine import Engine, Prediction, Tap, layer_of_convolution, reserved
from engines.weights import permuted, reinitialised
from extract import sources
from extract.networks import CLEAN, CONVOLUTION, DECODED, INPUT, TRAINED
from extract.sketch import Sketch
from extract.sources import ActivationSource
from extract.stream import RecordedModel
from extract.taps import fits

Sources = Mapping[str, ActivationSource]


class Deferred:
    """An engine that is opened at its first call: nothing is exported before a run is checked."""

    def __init__(self, study: Study, denoiser: Callable[[], Denoiser], taps: Sequence[Tap]) -> None:
        self._study, self._denoiser, self._taps = study, denoiser, taps
        self._engine: Engine | None = None

    def open(self) -> Engine:
        """Open the engine, once."""
        if self._engine is None:
            study = self._study
            opened = study.backend.open(
                self._denoiser(), self._taps, default_cache(), study.threads
            )
            self._engine = reserved(opened, study.config.batch)
        return self._engine

    def close(self) -> None:
        """Free the engine's memory."""
        self._engine = None

    def __call__(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        """Run the denoiser once."""
        return self.open()(latents, timestep, conditioning)


class Networks:
    """The engines of a study, one per network: two baselines may record the same network."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.engines: dict[str, Deferred] = {}

    def trained(self) -> Deferred:
        """Return the network that generates; its convolutions are tapped only as a baseline."""
        study = self.study
        convolutions = study.convolutions if CONVOLUTION in study.config.baselines else ()
        taps = (*study.taps, *convolutions)
        return self._engine(TRAINED, lambda: study.components.denoiser, taps)

    def permuted(self, seed: int) -> Deferred:
        """Return the network with permuted weights."""
        denoiser = self.study.components.denoiser
        return self._engine(f"permuted-{seed}", lambda: permuted(denoiser, seed), self.study.taps)

    def reinitialised(self, seed: int) -> Deferred:
        """Return the network with re-initialised weights."""
        denoiser = self.study.components.denoiser
        name = f"reinitialised-{seed}"
        return self._engine(name, lambda: reinitialised(denoiser, seed), self.study.taps)

    def open(self) -> None:
        """Open all engines; from now on the model's other parts compute on their device."""
        for engine in self.engines.values():
            engine.open()
        self.study.components.send(self.study.device)

    def release_weights(self) -> None:
        """Free the model's own weights if engines keep theirs; nothing can be opened after."""
        if self.study.backend.keeps_weights:
            self.study.components.denoiser.module.to("meta")

    def close(self) -> None:
        """Free the memory of all engines."""
        for engine in self.engines.values():
            engine.close()

    def _engine(self, name: str, denoiser: Callable[[], Denoiser], taps: Sequence[Tap]) -> Deferred:
        return self.engines.setdefault(name, Deferred(self.study, denoiser, taps))


def alone(study: Study, engine: Engine, rows: int) -> RecordedModel:
    """Record the trained network, its input and its predicted clean latents, and nothing else."""
    recorded = {
        INPUT: sources.latent(),
        CLEAN: sources.clean_latent(),
        TRAINED: sources.conditional(study.layers),
    }
    config = study.config
    return RecordedModel(
        components=study.components,
        engine=engine,
        sources=recorded,
        steps=config.sampler_steps,
        guidance=study.guidance,
        batch=rows,
        sketch=None if config.width is None else Sketch(config.width),
    )


def recorded_model(study: Study) -> tuple[RecordedModel, Networks]:
    """Record the trained network, its controls and the chosen baselines; nothing is opened yet."""
    config, networks = study.config, Networks(study)
    model = alone(study, networks.trained(), config.batch)
    recorded = dict(model.sources)
    for seed in range(config.random_networks):
        engine = networks.permuted(seed)
        recorded[f"random-{seed + 1}"] = sources.matched(engine, study.layers, config.batch)
    # In the order of the table, where sources of test images alone come last.
    for name, sources_of in BASELINES.items():
        if name in config.baselines:
            recorded |= sources_of(study, networks)
    return replace(model, sources=recorded), networks


def _own(study: Study, networks: Networks) -> Sources:
    return {
        f"own-{seed + 1}": _own_trajectory(study, networks.permuted(seed)) for seed in _seeds(study)
    }


def _reinitialised(study: Study, networks: Networks) -> Sources:
    return {
        f"reinitialised-{seed + 1}": sources.matched(
            networks.reinitialised(seed), study.layers, study.config.batch
        )
        for seed in _seeds(study)
    }


def _own_reinitialised(study: Study, networks: Networks) -> Sources:
    return {
        f"own reinitialised-{seed + 1}": _own_trajectory(study, networks.reinitialised(seed))
        for seed in _seeds(study)
    }


def _own_trajectory(study: Study, engine: Engine) -> ActivationSource:
    config = study.config
    return sources.own(
        engine, study.layers, config.batch, study.components, config.sampler_steps, study.guidance
    )


def _seeds(study: Study) -> range:
    return range(max(1, study.config.random_networks))


def chosen_convolutions(study: Study) -> dict[str, Tap]:
    """Return the taps of the baseline ``convolution``, by layer: those in the chosen layers."""
    chosen = study.config.layers
    layers = {layer_of_convolution(tap): tap for tap in study.convolutions}
    return {
        layer: tap
        for layer, tap in layers.items()
        if not chosen or any(fits(layer, name) for name in chosen)
    }


def _convolution(study: Study, _: Networks) -> Sources:
    if not study.convolutions:
        raise UserError(
            f"{study.components.family.title} has no convolutions to compare with; "
            f"drop the baseline {CONVOLUTION}"
        )
    return {CONVOLUTION: sources.convolution(list(chosen_convolutions(study)))}


def _unconditional(study: Study, _: Networks) -> Sources:
    if study.guidance is None:
        raise UserError(
            "without guidance by a second call there is no unconditional branch to record; "
            "drop the baseline unconditional, or give --true-guidance"
        )
    return {"unconditional": sources.unconditional(study.layers)}


def _decoded(study: Study, _: Networks) -> Sources:
    maps = {name: task for name, task in sorted(study.tasks.items()) if not task.per_image}
    if not maps:
        raise UserError(
            f"baseline {DECODED} predicts maps and no task is of maps; drop it or add a task "
            "like depth"
        )
    # A label that the labeler lacks ends the run before anything is generated.
    blank = study.reader(torch.zeros(1, 3, *study.components.image_size))
    for name, task in maps.items():
        try:
            task.target(blank)
        except DatasetError as error:
            raise UserError(
                f"baseline {DECODED} passes unfinished images to the labeler, which has no labels "
                f"of {name}; drop the baseline or the task"
            ) from error

    def read(images: Tensor) -> Tensor:
        labels = study.reader(images)
        targets = [task.target(labels).double() for task in maps.values()]
        return torch.cat(targets, dim=1).flatten(2).mT

    return {DECODED: sources.decoded(study.components, read)}


BASELINES: dict[str, Callable[[Study, Networks], Sources]] = {
    "own": _own,
    "reinitialised": _reinitialised,
    "own-reinitialised": _own_reinitialised,
    "vae": lambda study, _: {"vae": sources.decoder(study.components)},
    CONVOLUTION: _convolution,
    "text": lambda study, _: {"text": sources.text()},
    "unconditional": _unconditional,
    DECODED: _decoded,
}
