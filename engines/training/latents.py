"""Training data: prompts and latents of rendered scenes, by the shipped autoencoder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from engines.models.tiny.rendering import render_set

SHIPPED = Path(__file__).parent.parent / "models" / "tiny" / "weights"
"""Folder of the shipped model, whose autoencoder every trained model shares."""
ENCODE_BATCH = 64


@dataclass(frozen=True, slots=True)
class Latents:
    """Scaled latents of n scenes and of their mirror images, and the prompts of the scenes."""

    straight: Float[Tensor, "n 4 16 16"]
    mirror: Float[Tensor, "n 4 16 16"]
    prompts: list[str]


def shipped_vae() -> AutoencoderKL:
    """The shipped autoencoder, in single precision."""
    vae = AutoencoderKL.from_pretrained(
        SHIPPED / "vae", torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    assert isinstance(vae, AutoencoderKL)
    vae.register_to_config(_name_or_path="")
    return vae.eval().requires_grad_(False)


def rendered_scenes(work: Path, *options: str) -> Path:
    """Render the training set into a folder of ``work``, unless that is done; return the folder.

    ``options`` are further options of ``python -m datasets.render``.
    """
    folder = work / "train"
    render_set("train", folder, "--processes", str(max(1, (os.cpu_count() or 1) // 2)), *options)
    return folder


def training_latents(work: Path, device: str) -> Latents:
    """Render the training set into ``work`` and encode it on ``device``, unless that is done."""
    folder = rendered_scenes(work)
    path = work / "latents.safetensors"
    if not path.exists():
        rgb, vae = np.load(folder / "rgb.npy", mmap_mode="r"), shipped_vae().to(device)
        latents = {
            "straight": _encode(vae, rgb, flip=False),
            "mirror": _encode(vae, rgb, flip=True),
        }
        save_file(latents, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    stored = load_file(path)
    prompts = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    return Latents(stored["straight"], stored["mirror"], prompts)


@torch.no_grad()
def _encode(vae: AutoencoderKL, rgb: np.ndarray, flip: bool) -> Tensor:
    parts = []
    for start in range(0, len(rgb), ENCODE_BATCH):
        images = torch.from_numpy(rgb[start : start + ENCODE_BATCH].copy()).to(vae.device)
        images = images.float() / 127.5 - 1
        images = images.flip(-1) if flip else images
        parts.append((vae.encode(images).latent_dist.mean * vae.config.scaling_factor).cpu())
    return torch.cat(parts).contiguous()
