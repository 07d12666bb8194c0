"""What the trainers' commands have in common: options, settings of torch, and ``training.json``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from engines.models.tiny.options import at_least
from engines.training.loop import BATCH

STEPS = 3200
"""The shipped UNet was trained for as many, of as many latents each."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every trainer."""
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument(
        "--work", type=Path, default=Path("train-zoo"), help="images, latents and checkpoints"
    )
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder to write")
    parser.add_argument(
        "--steps",
        type=at_least(1),
        default=STEPS,
        help="of 64 latents each (default %(default)s)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-graph", action="store_true", help="on a card: no CUDA graph")


def prepare(options: argparse.Namespace) -> None:
    """Set torch up for training, and make the work folder."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    options.work.mkdir(parents=True, exist_ok=True)


def write_record(
    options: argparse.Namespace, recipe: str, network: torch.nn.Module, seconds: float
) -> None:
    """Write ``training.json`` beside the weights of ``network``, and print it.

    ``seconds`` is the time of training, with all sessions before.
    """
    record = {
        "recipe": recipe,
        "seed": options.seed,
        "steps": options.steps,
        "training_images": options.steps * BATCH,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "seconds": round(seconds, 1),
    }
    (options.out / "training.json").write_text(
        json.dumps(record, indent=2) + "\n", encoding="utf-8"
    )
    print(json.dumps(record), flush=True)
