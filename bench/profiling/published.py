"""Cost of the published procedure (Chen, Viegas, Wattenberg 2023), measured on a few cells.

The authors' scripts generate every image again for each block group and each of the T steps (up to
that step), pickle the group's activations, read them back, and fit one probe per layer and step
with Adam. Decoding, labelling, evaluation of the probes and the random network are left out, which
favours the published procedure.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from bench.measure import timed
from bench.profiling.records import Term
from bench.study import Study
from datasets.items import Item
from engines.backends.torch_eager import TorchEager
from engines.engine import Tap
from extract.trajectory import Step, denoise, initial_noise
from probes.adam import BATCH, EPOCHS, new_probe, optimizer, pixel_loss, update

_STEPS = 3
"""Steps timed per item and group."""
_FITS = 3
"""Adam updates timed per layer and task."""


def authors_terms(study: Study, items: Sequence[Item]) -> list[Term]:
    """Terms of the procedure for both tasks and all items of the study, with measured samples."""
    groups = _groups(study.taps)
    steps = study.config.sampler_steps
    train = sum(len(block.items) for block in study.train)
    trajectories = 2 * study.items * len(groups)
    calls = trajectories * steps * (steps + 1) // 2
    stored = trajectories * steps
    updates = len(study.taps) * steps * EPOCHS * ceil(train / BATCH)
    step_seconds, write_seconds, read_seconds = [], [], []
    activations: dict[str, Tensor] = {}
    with TemporaryDirectory() as folder:
        for item in items:
            for group, taps in groups.items():
                last, seconds = _generate(study, item, taps)
                step_seconds += seconds
                activations |= last
                path = Path(folder) / f"{item.id}-{group}.pkl"
                write_seconds.append(timed(partial(_write, path, last))[1])
                read_seconds.append(timed(partial(_read, path))[1])
    size = study.components.image_size
    saliency, depth = (
        [update_seconds(value, size, is_mask) for value in activations.values()]
        for is_mask in (True, False)
    )
    fits = f"{len(study.taps)} layers x {steps} steps x {EPOCHS} epochs x ceil({train} / {BATCH})"
    return [
        Term(
            f"UNet steps: 2 tasks x {study.items} items x {len(groups)} groups x "
            f"(1 + ... + {steps})",
            calls,
            "step of one image",
            step_seconds,
        ),
        Term(
            "activations pickled: 2 tasks x items x groups x steps", stored, "file", write_seconds
        ),
        Term("activations read back, once", stored, "file", read_seconds),
        Term(f"Adam, saliency: {fits} updates", updates, "update", saliency),
        Term("Adam, depth: as many", updates, "update", depth),
    ]


def _groups(taps: Sequence[Tap]) -> dict[str, list[Tap]]:
    """The taps per block."""
    groups: dict[str, list[Tap]] = {}
    for tap in taps:
        groups.setdefault(tap.layer.partition(".")[0], []).append(tap)
    return groups


def _generate(
    study: Study, item: Item, taps: Sequence[Tap]
) -> tuple[dict[str, Tensor], list[float]]:
    """(last activations, seconds per step) of one image's first steps with one group's hooks."""
    parts = study.components
    loop = denoise(
        TorchEager(parts.denoiser, taps),
        parts.sampler(study.config.sampler_steps),
        initial_noise([item.seed], parts.latent_shape),
        parts.embed([item.prompt]),
        parts.embed([""]),
        study.guidance,
    )
    seconds = []
    step: Step | None = None
    for _ in range(min(_STEPS, study.config.sampler_steps)):
        step, took = timed(lambda: next(loop))
        seconds.append(took)
    assert step is not None
    return dict(step.prediction.taps), seconds


def _write(path: Path, activations: dict[str, Tensor]) -> None:
    with path.open("wb") as stream:
        pickle.dump({layer: value.clone().numpy() for layer, value in activations.items()}, stream)


def _read(path: Path) -> None:
    with path.open("rb") as stream:
        pickle.load(stream)  # noqa: S301  (written above, in a temporary folder)


def update_seconds(
    activation: Float[Tensor, "1 tokens channels"], size: tuple[int, int], is_mask: bool
) -> float:
    """Mean seconds of an Adam update of a probe on ``BATCH`` images of a height and width."""
    maps = activation.expand(BATCH, -1, -1).clone()
    probe = new_probe(activation.shape[-1], is_mask)
    adam = optimizer(probe)
    target = torch.zeros(BATCH, *size)

    def one() -> float:
        return update(adam, pixel_loss(probe(maps), target))

    one()
    return sum(timed(one)[1] for _ in range(_FITS)) / _FITS
