"""Measure the shipped model and labeler on held-out scenes: the figures of their cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from bench.config import Config
from bench.curation.agreement import label_scores
from bench.errors import UserError
from bench.figures.images import image_grid, image_of, save_image
from bench.registry import plugin
from bench.study import Study, open_study
from datasets.items import Item
from datasets.labelers.tiny.network import WORDS
from datasets.labelers.tiny.read import BATCH, TinyLabeler
from datasets.labels import concatenate, exact_labels
from datasets.render import rendered, scenes_of
from datasets.scenes import Attributes
from datasets.splits import BLOCK
from extract.stream import RecordedModel
from probes.score import DICE, RMSE
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.saliency import TASK as SALIENCY

ATTRIBUTES = ("color", "shape", "light", "floor", "wall")
COLUMNS, ROWS = 12, 6


def print_card(limit: int, sheet: Path | None) -> None:
    """Measure on ``limit`` held-out renders and test prompts each; write a sheet of samples."""
    study = open_study(Config())
    items = [item for block in study.test for item in block.items][:limit]
    if sheet and len(items) < COLUMNS * ROWS:
        raise UserError(
            f"a sheet shows {COLUMNS * ROWS} samples; "
            "give --limit at least that, or leave --sheet out"
        )
    parts, reader = study.components, plugin("labeler", "tiny").open().reader
    torch.set_num_threads(study.threads)
    scenes = scenes_of("held-out", limit)
    renders = list(rendered(scenes))
    images = torch.cat([chunk.rgb for chunk in renders])
    exact = concatenate([exact_labels(chunk, reader.scale) for chunk in renders])
    decoded = torch.cat([parts.decode(parts.encode(chunk)) for chunk in images.split(32)])
    psnr = -10 * (images - decoded).square().mean((1, 2, 3)).log10()
    print(
        f"autoencoder on {len(images)} held-out renders: {psnr.mean():.2f} dB PSNR "
        f"(5 % quantile {psnr.quantile(0.05):.2f})"
    )
    for name, labelled in (("renders", images), ("their reconstructions", decoded)):
        labels = reader(labelled)
        dice = float(label_scores(SALIENCY, DICE, exact, labels).mean())
        rmse = float(label_scores(DEPTH, RMSE, exact, labels).mean())
        print(f"labeler on {name}: Dice {dice:.3f}, depth RMSE {rmse:.3f} std")
    samples = _generate(study, items)
    assert study.dataset.scene is not None
    prompted = [study.dataset.scene(item).attributes for item in items]
    shown = [scene.attributes for scene in scenes]
    rows = [
        {
            "word": name,
            f"{len(items)} samples": _share_right(reader, samples, prompted, name),
            "held-out renders": _share_right(reader, images, shown, name),
        }
        for name in ATTRIBUTES
    ]
    print(tabulate(rows, headers="keys", tablefmt="simple"))
    if sheet:
        _write_sheet(samples, sheet)
        print(f"samples: {sheet}")


def _generate(study: Study, items: Sequence[Item]) -> Tensor:
    recorded = RecordedModel(
        study.components,
        study.opened(),
        {},
        study.config.sampler_steps,
        study.guidance,
        study.config.batch,
    )
    blocks = (items[start : start + BLOCK] for start in range(0, len(items), BLOCK))
    return torch.cat([study.stream(recorded, block)[0].images for block in blocks])


def _share_right(
    reader: TinyLabeler, images: Tensor, attributes: Sequence[Attributes], name: str
) -> str:
    """Return the share of images in which the labeler reads the attribute's true word."""
    logits = torch.cat([reader.read(chunk).words[name] for chunk in images.split(BATCH)])
    truth = torch.tensor([WORDS[name].index(getattr(entry, name)) for entry in attributes])
    return f"{100 * float((logits.argmax(1) == truth).double().mean()):.1f} %"


def _write_sheet(images: Tensor, path: Path) -> None:
    tiles = [image_of(image) for image in (images * 255).round().byte().numpy()]
    save_image(
        image_grid([tiles[row * COLUMNS : (row + 1) * COLUMNS] for row in range(ROWS)]), path
    )
