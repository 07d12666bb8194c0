"""What a profile measures on: a study of the trained model, or one of its architecture with random weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bench.config import Config
from bench.errors import MistakeError, mistakes
from bench.profiling.config import REFERENCE, ProfileConfig
from bench.random_model import random_components
from bench.resolve import plugin
from bench.study import Study, model_spec, open_study
from datasets.labels import DisparityScale, Labels
from datasets.splits import blocks_of
from engines.models.tiny import MODEL as TINY
from extract.taps import convolution_taps, self_attention_taps


@dataclass(frozen=True, slots=True)
class Drawn:
    """Stands in for a labeler where pictures show nothing: random weights paint noise, and labels cost no time."""

    scale: DisparityScale
    fingerprint: str

    def __call__(self, pictures: Float[Tensor, "n 3 h w"]) -> Labels:
        """Seeded maps of the pictures' size."""
        n, _, height, width = pictures.shape
        maps = torch.randn(n, height, width, generator=torch.Generator().manual_seed(0))
        return Labels(disparity=maps, saliency=maps > 1)


def open_profile_study(config: ProfileConfig) -> Study:
    """Resolve the model. Raises MistakeError, with the way out, when the trained model cannot be had."""
    asked = Config(model=config.model, engine=REFERENCE, sampler_steps=config.sampler_steps, threads=config.threads)
    spec = model_spec(config.model)
    if config.weights == "random":
        return _random(asked)
    try:
        return open_study(asked)
    except mistakes() as error:
        if spec.source == TINY.source:
            raise
        raise MistakeError(f"{error} (without weights, profile the architecture: --weights random)") from error


def _random(config: Config) -> Study:
    spec = model_spec(config.model)
    components = random_components(spec.source, Path(TINY.source) / "tokenizer")
    taps = self_attention_taps(components.unet)
    dataset = plugin("dataset", config.dataset)
    items = dataset.items()
    return Study(
        config=config,
        spec=spec,
        components=components,
        taps=taps,
        convolutions=convolution_taps(components.unet),
        layers=tuple(tap.layer for tap in taps),
        backend=plugin("engine", config.engine),
        dataset=dataset,
        reader=Drawn(DisparityScale(0.0, 1.0), "drawn"),
        tasks={name: plugin("task", name) for name in config.tasks},
        train=blocks_of(items, "train"),
        test=blocks_of(items, "test"),
        fingerprint="random",
        threads=config.threads or len(os.sched_getaffinity(0)),
    )
