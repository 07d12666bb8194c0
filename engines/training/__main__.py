"""Train one small model: ``python -m engines.training NAME --seed N --work FOLDER --out FOLDER``.

Render the scenes, encode them with the shipped autoencoder, train, and write a diffusers folder.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import time
from pathlib import Path

import torch

from engines.training.latents import Latents, training_latents
from engines.training.loop import BATCH, Batches, train
from engines.training.recipes import RECIPES, Network

STEPS = 3200
"""The shipped UNet was trained for as many, of as many latents each."""


def write(network: Network, out: Path) -> None:
    """Write the diffusers folder: text encoders in single precision, all else in half."""
    pipeline = copy.deepcopy(network).cpu().eval().pipeline()
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            part.float() if name.startswith("text_encoder") else part.half()
    pipeline.save_pretrained(out, safe_serialization=True)


def main() -> None:
    """Train a model and write it."""
    parser = argparse.ArgumentParser(prog="python -m engines.training", description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, default=Path("train-zoo"), help="images, latents and checkpoints"
    )
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder to write")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="of 64 latents each (default %(default)s)"
    )
    parser.add_argument(
        "--snapshots", default="", help="also write OUT-at-N after N steps each: 160,640"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-graph", action="store_true", help="on a card: no CUDA graph")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    arguments.work.mkdir(parents=True, exist_ok=True)
    latents: Latents = training_latents(arguments.work, arguments.device)
    recipe = RECIPES[arguments.name]
    torch.manual_seed(1000 + arguments.seed)
    network = recipe.make(latents.prompts)
    started = time.monotonic()
    snapshots = {
        int(steps): functools.partial(
            write, out=arguments.out.with_name(f"{arguments.out.name}-at-{steps}")
        )
        for steps in filter(None, arguments.snapshots.split(","))
    }
    averaged = train(
        network,
        recipe.objective,
        Batches(latents, network, arguments.seed, arguments.device),
        steps=arguments.steps,
        checkpoint=arguments.work / f"{arguments.name}-{arguments.seed}.pt",
        snapshots=snapshots,
        device=arguments.device,
        graph=not arguments.no_graph,
    )
    write(averaged, arguments.out)
    record = {
        "recipe": arguments.name,
        "seed": arguments.seed,
        "steps": arguments.steps,
        "training_images": arguments.steps * BATCH,
        "parameters": sum(parameter.numel() for parameter in averaged.parameters()),
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - started, 1),
    }
    (arguments.out / "training.json").write_text(
        json.dumps(record, indent=2) + "\n", encoding="utf-8"
    )
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
