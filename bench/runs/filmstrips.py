"""A few test images coming out of noise: what the decoded image shows, and what the probe reads, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.study import Study
from datasets.labels import Labels
from extract.networks import TRAINED
from extract.stream import BlockOutput
from probes.probe_set import ACTIVATIONS, ProbeSet
from probes.readout import Readout

STRIP_ITEMS = 6
STRIP_STEPS = (1, 2, 3, 5, 10, 15)
"""Counted from 1."""


def strip_steps(study: Study) -> tuple[int, ...]:
    """The steps of the strips that were probed, counted from 0."""
    return tuple(step - 1 for step in STRIP_STEPS if step - 1 in study.config.probed_steps)


def strip_tensors(
    study: Study, probe_set: ProbeSet, readout: Readout, generated: BlockOutput, labels: Labels
) -> dict[str, Tensor]:
    """Images, decoded noisy images, labels and readings of the first items of a block, as tensors for a file."""
    n = min(STRIP_ITEMS, len(generated.images))
    tensors = {"strip/image": _bytes(generated.images[:n])}
    for step in strip_steps(study):
        tensors[f"strip/noisy/{step}"] = _bytes(study.components.decode(generated.noisy[step][:n]))
    for name, task in study.tasks.items():
        if task.per_image:
            continue
        tensors[f"strip/label/{name}"] = task.target(labels)[:n].float().contiguous()
        for step in strip_steps(study):
            cell = probe_set.best(name, TRAINED, step, ACTIVATIONS)
            reading = readout.predictions[name, cell][:n].mT.unflatten(-1, (cell.side, cell.side))
            tensors[f"strip/reading/{name}/{step}"] = reading.float().contiguous()
    return tensors


def _bytes(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8).contiguous()
