"""Train one small model: ``python -m engines.training NAME --seed N --work FOLDER --out FOLDER``.

Render the scenes, encode them with the shipped autoencoder, train, and write a diffusers folder.
"""

from __future__ import annotations

import argparse

import torch

from engines.models.tiny.options import at_least, errors_in_words
from engines.training.command import add_options, prepare, write_record
from engines.training.latents import Latents, training_latents
from engines.training.loop import Batches, train
from engines.training.recipes import RECIPES
from engines.training.write import write


def main() -> None:
    """Train a model and write it."""
    parser = argparse.ArgumentParser(prog="python -m engines.training", description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    add_options(parser)
    parser.add_argument(
        "--snapshots",
        type=numbers_of_steps,
        default=(),
        help="also write OUT-at-N after N steps each: 160,640",
    )
    arguments = parser.parse_args()
    with errors_in_words(parser):
        train_and_write(arguments)


def numbers_of_steps(text: str) -> tuple[int, ...]:
    """Numbers of steps between commas."""
    return tuple(map(at_least(1), filter(None, text.split(","))))


def train_and_write(arguments: argparse.Namespace) -> None:
    """Train the model of the command's arguments and write it."""
    prepare(arguments)
    latents: Latents = training_latents(arguments.work, arguments.device)
    recipe = RECIPES[arguments.name]
    torch.manual_seed(1000 + arguments.seed)
    network = recipe.make(latents.prompts)
    trained = train(
        network,
        recipe.objective,
        Batches(latents, network, arguments.seed, arguments.device),
        recipe=arguments.name,
        seed=arguments.seed,
        steps=arguments.steps,
        work=arguments.work,
        snapshots={
            steps: arguments.out.with_name(f"{arguments.out.name}-at-{steps}")
            for steps in arguments.snapshots
        },
        device=arguments.device,
        graph=not arguments.no_graph,
    )
    write(trained.network, arguments.out)
    write_record(arguments, arguments.name, trained.network, trained.seconds)


if __name__ == "__main__":
    main()
