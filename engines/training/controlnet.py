"""Train a ControlNet of the shipped model: ``python -m engines.training.controlnet --help``.

The ControlNet reads a mask of the salient solid or a map of inverse depth (``conditions.py``), as
three equal channels in 0..1 at the images' resolution. The UNet and the text encoder stay frozen;
gradients pass through the UNet's decoder. ``diffusers.ControlNetModel.from_pretrained`` loads the
folder that is written, for a ``StableDiffusionControlNetPipeline`` of the shipped model.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from engines.models.tiny.architecture import make_scheduler
from engines.models.tiny.options import errors_in_words
from engines.models.tiny.words import load_tokenizer
from engines.training.command import add_options, prepare, write_record
from engines.training.conditions import CONDITIONS, training_conditions
from engines.training.latents import SHIPPED, shipped_vae, training_latents
from engines.training.loop import Batches, train
from engines.training.objectives import noise_prediction
from engines.training.recipes import Network

EMBEDDING_CHANNELS = (16, 32, 64)
"""Of the condition's embedding. Each after the first halves the side: images have 64 pixels for the
16 of a latent."""


class ControlledUNet(Network):
    """A ControlNet that is trained, with the shipped UNet and text encoder, which are frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = load_tokenizer(SHIPPED / "tokenizer")
        self.unet = UNet2DConditionModel.from_pretrained(
            SHIPPED / "unet", torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
        self.text_encoder = CLIPTextModel.from_pretrained(
            SHIPPED / "text_encoder", dtype=torch.float32
        )
        self.controlnet = ControlNetModel.from_unet(
            self.unet, conditioning_embedding_out_channels=EMBEDDING_CHANNELS
        )
        self.unet.eval().requires_grad_(False)
        self.text_encoder.eval().requires_grad_(False)

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor, condition: Tensor) -> Tensor:
        words = self.text_encoder(tokens).last_hidden_state
        down, middle = self.controlnet(noisy, timestep, words, condition, return_dict=False)
        predicted: Tensor = self.unet(
            noisy,
            timestep,
            words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return predicted

    def pipeline(self) -> Any:
        from diffusers import StableDiffusionControlNetPipeline

        return StableDiffusionControlNetPipeline(
            vae=shipped_vae(),
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            controlnet=self.controlnet,
            scheduler=make_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def write_controlnet(controlnet: ControlNetModel, out: Path) -> None:
    """Write the ControlNet as a diffusers folder, in half precision."""
    copy.deepcopy(controlnet).cpu().eval().half().save_pretrained(out, safe_serialization=True)


def main() -> None:
    """Train a ControlNet and write it."""
    parser = argparse.ArgumentParser(
        prog="python -m engines.training.controlnet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--condition", choices=sorted(CONDITIONS), required=True)
    add_options(parser)
    arguments = parser.parse_args()
    with errors_in_words(parser):
        train_and_write(arguments)


def train_and_write(arguments: argparse.Namespace) -> None:
    """Train the ControlNet of the command's arguments and write it."""
    prepare(arguments)
    recipe = f"controlnet-{arguments.condition}"
    conditions = training_conditions(arguments.work, arguments.condition)
    latents = training_latents(arguments.work, arguments.device)
    torch.manual_seed(1000 + arguments.seed)
    network = ControlledUNet()
    trained = train(
        network,
        noise_prediction,
        Batches(latents, network, arguments.seed, arguments.device, conditions),
        recipe=recipe,
        seed=arguments.seed,
        steps=arguments.steps,
        work=arguments.work,
        snapshots={},
        device=arguments.device,
        graph=not arguments.no_graph,
    )
    assert isinstance(trained.network, ControlledUNet)
    write_controlnet(trained.network.controlnet, arguments.out)
    write_record(arguments, recipe, trained.network.controlnet, trained.seconds)


if __name__ == "__main__":
    main()
