"""Train the shipped model: ``python -m engines.models.tiny.train --work FOLDER --out FOLDER``.

Render the images, fit the autoencoder, then the UNet with its text encoder, and write a diffusers
folder. Every stage resumes from its checkpoint. One thread: two are slower on a shared machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from engines.models.tiny.architecture import make_scheduler
from engines.models.tiny.options import at_least, errors_in_words
from engines.models.tiny.rendering import render_set
from engines.models.tiny.train_unet import STEPS, Denoiser, train_denoiser
from engines.models.tiny.train_vae import encode, reconstruction_psnr_db, train_vae
from engines.models.tiny.words import make_tokenizer


def images_of(name: str, work: Path) -> tuple[np.ndarray, list[str]]:
    """Images and prompts of a set, rendered into ``work`` unless that is done."""
    folder = work / name
    render_set(name, folder)
    prompts = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    return np.load(folder / "rgb.npy", mmap_mode="r"), prompts


def trained_vae(work: Path) -> AutoencoderKL:
    """The autoencoder in ``work``, trained if there is none."""
    folder = work / "vae"
    if not (folder / "config.json").exists():
        rgb, _ = images_of("train", work)
        # The configuration is written before the weights: the folder must appear as a whole.
        unfinished = work / "vae-unfinished"
        train_vae(rgb, work).save_pretrained(unfinished)
        unfinished.replace(folder)
    vae = AutoencoderKL.from_pretrained(folder)
    assert isinstance(vae, AutoencoderKL)
    # diffusers would save the local path with the model.
    vae.register_to_config(_name_or_path="")
    held_out, _ = images_of("held-out", work)
    print(
        f"held-out reconstruction: {reconstruction_psnr_db(vae.eval(), held_out):.2f} dB PSNR",
        flush=True,
    )
    return vae


def scaled_latents(
    vae: AutoencoderKL, rgb: np.ndarray, work: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents of the images and their mirror images, encoded once."""
    path = work / "latents.safetensors"
    if not path.exists():
        scale = vae.config.scaling_factor
        mirror = np.ascontiguousarray(rgb[..., ::-1])
        latents = {"straight": encode(vae, rgb) * scale, "mirror": encode(vae, mirror) * scale}
        partial = path.with_suffix(".partial")
        save_file({name: value.contiguous() for name, value in latents.items()}, partial)
        partial.replace(path)
    stored = load_file(path)
    return stored["straight"], stored["mirror"]


def write_folder(vae: AutoencoderKL, denoiser: Denoiser, prompts: list[str], out: Path) -> None:
    """Write the diffusers folder, with weights in half precision."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=make_tokenizer(prompts),
        unet=denoiser.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16)
    # transformers computes in the stored precision, so the text encoder is stored in single.
    pipeline.text_encoder.float()
    pipeline.save_pretrained(out, safe_serialization=True)


def main() -> None:
    """Train and write the model."""
    parser = argparse.ArgumentParser(
        prog="python -m engines.models.tiny.train", description=__doc__
    )
    parser.add_argument(
        "--work", type=Path, default=Path("train-tiny"), help="images, latents and checkpoints"
    )
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder to write")
    parser.add_argument(
        "--steps", type=at_least(1), default=STEPS, help="steps of the UNet (default %(default)s)"
    )
    arguments = parser.parse_args()
    with errors_in_words(parser):
        train_and_write(arguments.work, arguments.out, arguments.steps)


def train_and_write(work: Path, out: Path, steps: int) -> None:
    """Train both stages in ``work``, the UNet for ``steps``, and write the model to ``out``."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    vae = trained_vae(work)
    rgb, prompts = images_of("train", work)
    straight, mirror = scaled_latents(vae, rgb, work)
    denoiser = train_denoiser(straight, mirror, prompts, make_tokenizer(prompts), work, steps)
    write_folder(vae, denoiser, prompts, out)


if __name__ == "__main__":
    main()
