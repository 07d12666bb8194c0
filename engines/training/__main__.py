"""Train one small model: ``python -m engines.training NAME --seed N --work FOLDER --out FOLDER``.

Render the scenes, encode them with the shipped autoencoder, train, and write a diffusers folder.
"""

from __future__ import annotations

import argparse
import copy
import functools
import time
from pathlib import Path

import torch

from engines.training.command import add_options, prepare, write_record
from engines.training.latents import Latents, training_latents
from engines.training.loop import Batches, train
from engines.training.recipes import RECIPES, Network


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
    add_options(parser)
    parser.add_argument(
        "--snapshots", default="", help="also write OUT-at-N after N steps each: 160,640"
    )
    arguments = parser.parse_args()
    prepare(arguments)
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
    write_record(arguments, arguments.name, averaged, started)


if __name__ == "__main__":
    main()
