"""Open the labeler of a run, with the networks that its options name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from bench.command_line import flag
from bench.config import Config, default_of
from bench.errors import UserError
from bench.options.labels import preparation_of
from bench.registry import plugin, plugins
from datasets.labeler import Labeler, Reader, Sources
from datasets.labels import DisparityScale
from engines.cache import default_cache
from engines.engine import ModelSpec
from engines.models.tiny import MODEL as TINY

NETWORKS = (
    "depth_model",
    "depth_scale",
    "saliency_model",
    "saliency_size",
    "saliency_preset",
    "saliency_mean",
    "saliency_deviation",
    "saliency_cut",
    "saliency_normalise",
)
"""The options that name a labeler's networks, and say how to use them."""
_STORED_SIZE = 512
"""Run folders of earlier versions hold this saliency size, which nobody chose."""
STAND_IN = "brightness"
"""The labeler without a network, for images that are of untrained models or are not scored."""


def labeler_of(config: Config, spec: ModelSpec, labels: bool = True) -> str:
    """Return the name of the labeler. Raises UserError where neither options nor model name one.

    Without ``labels``, brightness stands in there.
    """
    if config.labeler:
        return config.labeler
    # Random weights generate nothing to label, and other labelers may have to be downloaded.
    if config.weights == "random" or not (labels or spec.labeler):
        return STAND_IN
    if spec.labeler:
        return spec.labeler
    if config.source == "rendered":
        # Labels of rendered scenes are exact; the labeler of such scenes sets their units.
        return str(TINY.labeler)
    there = "; ".join(
        f"{name}: {summary.rstrip('.')}" for name, summary in plugins("labeler").items()
    )
    raise UserError(
        f"say with --labeler what labels the images of {config.model}: it names none ({there})"
    )


def brightness_stands_in(config: Config) -> bool:
    """Whether the labels are of the images' brightness, and not of depth and saliency."""
    stands_in = config.labeler == STAND_IN or (config.weights == "random" and not config.labeler)
    return stands_in and config.source != "rendered"


def reader_of(config: Config, name: str) -> Reader:
    """Open the labeler ``name`` with the networks that ``config`` names."""
    labeler: Labeler = plugin("labeler", name)
    if not labeler.takes_networks:
        refuse_networks(config, name)
    sources = Sources(
        depth_model=config.depth_model,
        depth_scale=DisparityScale(*map(float, config.depth_scale)) if config.depth_scale else None,
        saliency_model=None if config.saliency_model is None else Path(config.saliency_model),
        saliency_size=config.saliency_size,
        cache=default_cache(),
        saliency_preparation=preparation_of(config),
    )
    before = torch.get_num_threads()
    # Other libraries that a labeler opens take as many threads as torch.
    torch.set_num_threads(config.threads or before)
    try:
        return labeler.open(sources)
    finally:
        torch.set_num_threads(before)


def takes_networks(name: str) -> bool:
    """Whether options may name the networks of a labeler."""
    labeler: Labeler = plugin("labeler", name)
    return labeler.takes_networks


def without_networks(config: Config) -> Config:
    """Return the configuration for a labeler that has its own networks."""
    return replace(config, **{name: default_of(name) for name in NETWORKS})


def refuse_networks(config: Config, labeler: str) -> None:
    """Raise UserError when ``config`` names a network that the labeler would ignore."""
    if config.saliency_size == _STORED_SIZE:
        config = replace(config, saliency_size=None)
    chosen = [name for name in NETWORKS if getattr(config, name) != default_of(name)]
    named = ", ".join(map(flag, chosen))
    if named:
        raise UserError(f"the labeler {labeler} takes no other networks; leave {named} out")
