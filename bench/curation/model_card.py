"""How good the shipped model and labeler are: the figures of their cards, measured on held-out scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from bench.config import Config
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
from probes.blocks import Blocks
from probes.score import DICE, RMSE
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.saliency import TASK as SALIENCY

ATTRIBUTES = ("color", "shape", "light", "floor", "wall")
COLUMNS, ROWS = 12, 6


def print_card(limit: int, sheet: Path | None) -> None:
    """Measure on ``limit`` held-out renders and ``limit`` test prompts, print, and write a sheet of samples."""
    study = open_study(Config())
    items = [item for block in study.test for item in block.items][:limit]
    if sheet and len(items) < COLUMNS * ROWS:
        raise UserError(
            f"a sheet shows {COLUMNS * ROWS} samples; give --limit at least that, or leave --sheet out"
        )
    parts, reader = study.components, plugin("labeler", "tiny").open()
    torch.set_num_threads(study.threads)
    scenes = scenes_of("held-out", limit)
    renders = list(rendered(scenes))
    real = torch.cat([chunk.rgb for chunk in renders])
    exact = concatenate([exact_labels(chunk, reader.scale) for chunk in renders])
    back = torch.cat([parts.decode(parts.encode(chunk)) for chunk in real.split(32)])
    psnr = -10 * (real - back).square().mean((1, 2, 3)).log10()
    print(
        f"autoencoder on {len(real)} held-out renders: {psnr.mean():.2f} dB PSNR "
        f"(5 % quantile {psnr.quantile(0.05):.2f})"
    )
    for name, images in (("renders", real), ("their reconstructions", back)):
        seen = reader(images)
        scores = []
        for task, metric in ((SALIENCY, DICE), (DEPTH, RMSE)):
            blocks = Blocks(task.target(exact).double(), images.shape[-1])
            guess = task.target(seen).double().flatten(2)[None]
            scores.append(float(metric.compute(guess, blocks, torch.tensor([0.5])).mean()))
        print(f"labeler on {name}: Dice {scores[0]:.3f}, depth RMSE {scores[1]:.3f} std")
    generated = _generate(study, items)
    assert study.dataset.scene is not None
    wanted = [study.dataset.scene(item).attributes for item in items]
    rows = [
        [
            name,
            _found(reader, generated, wanted, name),
            _found(reader, real, [scene.attributes for scene in scenes], name),
        ]
        for name in ATTRIBUTES
    ]
    print(
        tabulate(
            rows, headers=["word", f"{len(items)} samples", "held-out renders"], tablefmt="simple"
        )
    )
    if sheet:
        _write_sheet(generated, sheet)
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
    images = []
    for start in range(0, len(items), BLOCK):
        images.append(study.stream(recorded, items[start : start + BLOCK])[0].images)
    return torch.cat(images)


def _found(reader: TinyLabeler, images: Tensor, wanted: Sequence[Attributes], name: str) -> str:
    """Share of images in which the labeler finds the wanted word."""
    logits = torch.cat([reader.read(chunk).words[name] for chunk in images.split(BATCH)])
    truth = torch.tensor([WORDS[name].index(getattr(attributes, name)) for attributes in wanted])
    return f"{100 * float((logits.argmax(1) == truth).double().mean()):.1f} %"


def _write_sheet(images: Tensor, path: Path) -> None:
    tiles = [image_of(image) for image in (images * 255).round().byte().numpy()]
    save_image(
        image_grid([tiles[row * COLUMNS : (row + 1) * COLUMNS] for row in range(ROWS)]), path
    )
