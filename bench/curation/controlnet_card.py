"""How well a ControlNet of the shipped model controls it, on held-out scenes.

Prompts are those of the scenes. A control shows the condition of another scene (the next one), so
that what the ControlNet does is told apart from what prompt and condition have in common.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from bench.curation.agreement import label_scores
from bench.curation.pipeline_card import GUIDANCE, ROWS_PER_CALL, STEPS, require_device
from bench.errors import UserError
from bench.registry import plugin
from datasets.labels import Labels, concatenate, exact_labels
from datasets.render import rendered, scenes_of
from engines.models.tiny import MODEL
from engines.training.conditions import CONDITIONS, Condition
from engines.validate import quoted
from probes.bootstrap import intervals
from probes.score import DICE, RMSE
from probes.tasks.depth import TASK as DEPTH
from probes.tasks.saliency import TASK as SALIENCY

COLUMNS = ("Dice", "depth RMSE (std)")


def print_controlnet_card(folder: Path, limit: int, device: str = "cpu") -> None:
    """Generate ``limit`` held-out scenes with and without the ControlNet in ``folder``.

    Prints agreement of the labels of the samples, as read by the shipped labeler, with the exact
    labels of the scene whose prompt is given and of the scene whose condition is shown.
    """
    require_device(device)
    if limit < 2:
        raise UserError("the control shows another scene's condition; give --limit at least 2")
    condition, pipeline = _open(folder, device)
    reader = plugin("labeler", "tiny").open().reader
    chunks = list(rendered(scenes_of("held-out", limit)))
    prompts = [attributes.prompt for chunk in chunks for attributes in chunk.attributes]
    exact = concatenate([exact_labels(chunk, reader.scale) for chunk in chunks])
    mask = condition is CONDITIONS["mask"]
    images = torch.cat(
        [condition.images_of(chunk.mask if mask else chunk.disparity) for chunk in chunks]
    )
    others = torch.arange(len(prompts)).roll(-1)
    rows = []
    for name, shown, scale in (
        ("none", images, 0.0),
        ("the scene's own", images, 1.0),
        ("another scene's", images[others], 1.0),
    ):
        labels = reader(_samples(pipeline, prompts, shown, scale))
        own = _scores(exact, labels)
        other = _scores(exact.take(others), labels)
        rows.append([name, *own, *other])
    headers = ["condition", *COLUMNS, *(f"{column}, other scene" for column in COLUMNS)]
    print(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    print(
        f"{folder.name} on {len(prompts)} held-out scenes: labels of the samples against exact "
        "labels of the prompt's scene and of the other scene, 95 % intervals over scenes"
    )


def _open(folder: Path, device: str) -> tuple[Condition, Any]:
    """The condition that a folder was trained on, and the shipped model's pipeline with it."""
    try:
        recipe = json.loads((folder / "training.json").read_text(encoding="utf-8"))["recipe"]
        condition = CONDITIONS[recipe.removeprefix("controlnet-")]
        # Only now, as their import writes remarks to the error stream.
        from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

        controlnet = ControlNetModel.from_pretrained(
            folder, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or quoted(error)
        raise UserError(
            f"{folder} is no ControlNet of python -m engines.training.controlnet ({reason}); give "
            "the folder of one"
        ) from error
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        MODEL.source,
        controlnet=controlnet,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return condition, pipeline.to(device)


def _samples(pipeline: Any, prompts: Sequence[str], conditions: Tensor, scale: float) -> Tensor:
    """Samples for prompts and conditions, n x 3 x h x w in 0..1; sample i has seed i."""
    parts = []
    for start in range(0, len(prompts), ROWS_PER_CALL):
        rows = range(start, min(start + ROWS_PER_CALL, len(prompts)))
        images = pipeline(
            [prompts[row] for row in rows],
            image=conditions[rows.start : rows.stop].float().expand(-1, 3, -1, -1),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            controlnet_conditioning_scale=scale,
            generator=[torch.Generator().manual_seed(row) for row in rows],
            output_type="pt",
        ).images
        parts.append(images.float().cpu())
    return torch.cat(parts)


def _scores(exact: Labels, labels: Labels) -> list[str]:
    values = [
        label_scores(SALIENCY, DICE, exact, labels).numpy(),
        label_scores(DEPTH, RMSE, exact, labels).numpy(),
    ]
    span = intervals(np.stack(values))
    return [
        f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        for mean, low, high in zip(span.mean, span.low, span.high, strict=True)
    ]
