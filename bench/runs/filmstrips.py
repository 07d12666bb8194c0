"""Film strips: a few test images by step, with the decoded image and the predictions of probes."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.runs.readings import (
    MOST_IMAGE_STEPS,
    SHOWN_ITEMS,
    image_tensors,
    reading_tensors,
    spread,
)
from bench.steps import steps_of
from bench.study import Study
from datasets.labels import Labels
from extract.networks import TRAINED
from extract.stream import BlockOutput
from probes.probe_set import ACTIVATIONS, ProbeSet
from probes.readout import Readout

STRIP_ITEMS = 6
STRIP_STEPS = (1, 2, 3, 5, 10, 15)
"""Counted from 1."""


def image_steps(study: Study) -> tuple[int, ...]:
    """Return the steps whose images are decoded, counted from 0."""
    return tuple(
        sorted({*strip_steps(study), *spread(study.config.probed_steps, MOST_IMAGE_STEPS)})
    )


def strip_steps(study: Study) -> tuple[int, ...]:
    """Return the steps of the strips that are probed, counted from 0."""
    return tuple(step for step in steps_of(STRIP_STEPS) if step in study.config.probed_steps)


def strip_decodings(study: Study) -> int:
    """Return how many latents :func:`strip_tensors` decodes: noisy ones, and clean ones."""
    items = len(study.test[0].items)
    n, shown, of_strip = min(STRIP_ITEMS, items), min(SHOWN_ITEMS, items), strip_steps(study)
    return sum((n if step in of_strip else shown) + shown for step in image_steps(study))


def strip_tensors(
    study: Study, probe_set: ProbeSet, readout: Readout, output: BlockOutput, labels: Labels
) -> dict[str, Tensor]:
    """Return images, decoded noisy images, labels and predictions of the first items of a block.

    With them come the readings of every layer and step (see readings.py).
    """
    n, shown = min(STRIP_ITEMS, len(output.images)), min(SHOWN_ITEMS, len(output.images))
    tensors = {"image": _bytes(output.images[:n])}
    decode, decoded = study.components.decode, {}
    for step in image_steps(study):
        of_strip = step in strip_steps(study)
        decoded[step] = decode(output.noisy[step][: n if of_strip else shown])
        if of_strip:
            tensors[f"noisy/{step}"] = _bytes(decoded[step])
    tensors |= image_tensors(
        decoded, {step: decode(output.clean[step][:shown]) for step in decoded}
    )
    tensors |= reading_tensors(readout, labels, study.config.probed_steps, n)
    for name, task in study.tasks.items():
        if task.per_image:
            continue
        tensors[f"label/{name}"] = task.target(labels)[:n].float().contiguous()
        for step in strip_steps(study):
            cell = probe_set.best(name, TRAINED, step, ACTIVATIONS)
            tokens = readout.predictions[name, cell][:n].mT
            prediction = tokens.unflatten(-1, cell.grid.shape)
            tensors[f"reading/{name}/{step}"] = prediction.float().contiguous()
    return tensors


def _bytes(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8).contiguous()
