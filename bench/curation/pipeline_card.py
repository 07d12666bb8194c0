"""Words found in samples of diffusers folders that were trained on the rendered scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from bench.errors import UserError
from bench.figures.images import image_grid, image_of, save_image
from bench.registry import plugin
from datasets.items import Item
from datasets.labelers.tiny.network import WORDS
from datasets.labelers.tiny.read import BATCH, TinyLabeler
from datasets.scenes import Attributes
from engines.silence import silenced
from engines.validate import quoted

ATTRIBUTES = ("color", "shape", "floor", "wall", "light")
STEPS = 15
GUIDANCE = 3.0
SHEET_COLUMNS = 12
ROWS_PER_CALL = 32


def print_pipeline_cards(
    folders: Sequence[Path], limit: int, sheet: Path | None, device: str = "cpu"
) -> None:
    """Generate ``limit`` test prompts with each folder's own pipeline and print the words found.

    The pipelines run on ``device`` in single precision; the initial noise is drawn on the CPU. The
    sheet shows the first samples of each folder in a row of its own: same prompts, same seeds.
    """
    require_device(device)
    for folder in folders:
        _index(folder)
    dataset, reader = plugin("dataset", "scenes617"), plugin("labeler", "tiny").open().reader
    items = [item for item in dataset.items(None) if item.split == "test"][:limit]
    expected = [dataset.scene(item).attributes for item in items]
    rows, tiles = [], []
    for folder in folders:
        pipeline = _open(folder).to(device)
        images = _samples(pipeline, items)
        shares = [f"{100 * _share(reader, images, expected, name):.1f}" for name in ATTRIBUTES]
        rows.append([folder.name, type(pipeline).__name__, *_training(folder), *shares])
        chosen = (images[:SHEET_COLUMNS] * 255).round().byte().numpy()
        tiles.append([image_of(image) for image in chosen])
    headers = ["model", "pipeline", "parameters", "training images", *ATTRIBUTES]
    print(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    print(f"share of {len(items)} samples that show the word, in %, as read by the shipped labeler")
    if sheet:
        save_image(image_grid(tiles), sheet)
        print(f"samples: {sheet}")


def require_device(device: str) -> None:
    """Raise UserError if torch cannot use ``device``; let it compute in single precision there."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch finds no CUDA card here; leave --device out")
    # TF32 would round as half precision does.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def _open(folder: Path) -> Any:
    """The folder's own diffusers pipeline in single precision; parts that it lacks are None."""
    from diffusers import DiffusionPipeline

    absent = {name: None for name, kind in _index(folder).items() if kind == [None, None]}
    try:
        with silenced():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, torch_dtype=torch.float32, **absent
            )
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"diffusers cannot open the pipeline {folder}: {quoted(error)}") from error
    if not hasattr(pipeline, "vae"):
        raise UserError(
            f"the pipeline {folder} has no autoencoder (vae), as one of pixels; "
            "name folders of latent models in --pipelines"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _index(folder: Path) -> dict[str, Any]:
    """Read a pipeline's ``model_index.json``. Raises UserError."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{folder} is no diffusers folder: its model_index.json cannot be read ({reason}); "
            "name another folder in --pipelines"
        ) from error
    if not isinstance(index, dict):
        raise UserError(f"{folder} is no diffusers folder: its model_index.json is no object")
    return index


def _samples(pipeline: Any, items: Sequence[Item]) -> Tensor:
    """Samples of the items' prompts and seeds, n x 3 x h x w in 0..1."""
    side = pipeline.vae.config.sample_size
    options: dict[str, Any] = {"height": side, "width": side}
    if type(pipeline).__name__.startswith("PixArt"):
        options |= {"use_resolution_binning": False, "clean_caption": False}
    parts = []
    for start in range(0, len(items), ROWS_PER_CALL):
        chunk = items[start : start + ROWS_PER_CALL]
        parts.append(
            pipeline(
                [item.prompt for item in chunk],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(item.seed) for item in chunk],
                output_type="pt",
                **options,
            )
            .images.float()
            .cpu()
        )
    return torch.cat(parts)


def _training(folder: Path) -> tuple[str, str]:
    """Parameters and training images, from the note that the trainer leaves."""
    try:
        facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        return f"{facts['parameters'] / 1e6:.2f} M", f"{facts['training_images']:,}"
    except (OSError, ValueError, KeyError, TypeError):
        return "-", "-"


def _share(reader: TinyLabeler, images: Tensor, expected: Sequence[Attributes], name: str) -> float:
    logits = torch.cat([reader.read(chunk).words[name] for chunk in images.split(BATCH)])
    words = [WORDS[name].index(getattr(attributes, name)) for attributes in expected]
    return float((logits.argmax(1) == torch.tensor(words)).double().mean())
