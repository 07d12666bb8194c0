"""What labels the images of a run: the labeler by name, and the networks that the user gives it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from bench.config import Config
from bench.errors import UserError
from bench.registry import plugin, plugins
from datasets.labeler import Labeler, Reader, Sources
from datasets.labels import DisparityScale
from engines.cache import default_cache
from engines.engine import ModelSpec
from engines.models.tiny import MODEL as TINY

NETWORKS = ("depth_model", "depth_scale", "saliency_model")
"""The options that name them."""
STAND_IN = "brightness"
"""The labeler that needs no network, where nothing is to be seen or nothing is scored."""


def labeler_of(config: Config, spec: ModelSpec, labels: bool = True) -> str:
    """The name of what labels the images. Raises UserError where neither the options nor the model says.

    Without ``labels``, brightness stands in there.
    """
    if config.labeler:
        return config.labeler
    # What random weights generate shows nothing; a labeler with weights of its own would be fetched for nothing.
    if config.weights == "random" or not (labels or spec.labeler):
        return STAND_IN
    if spec.labeler:
        return spec.labeler
    if config.source == "rendered":
        # Labels of rendered scenes are exact; what reads such scenes says in which units.
        return str(TINY.labeler)
    there = "; ".join(
        f"{name}: {summary.rstrip('.')}" for name, summary in plugins("labeler").items()
    )
    raise UserError(
        f"say with --labeler what reads the images of {config.model}: it names none itself ({there})"
    )


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
    )
    before = torch.get_num_threads()
    # What a labeler opens beside torch takes as many threads as torch.
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
    """The configuration for a labeler whose networks are its own."""
    return replace(config, **{name: getattr(Config(), name) for name in NETWORKS})


def refuse_networks(config: Config, labeler: str) -> None:
    """Raise UserError when ``config`` names a network that the labeler would ignore."""
    named = _networks_in(config)
    if named:
        raise UserError(f"the labeler {labeler} takes no other networks; leave {named} out")


def _networks_in(config: Config) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in NETWORKS if getattr(config, name))
