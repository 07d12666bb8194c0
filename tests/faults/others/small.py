"""A small random model of Stable Diffusion's kind, and copies of it with one thing changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.others.case import Kit, Make, edit

UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
INDEX, SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def save_base(folder: Path) -> Path:
    """Save the model that all changes start from."""
    import json

    from tests.small_models import SCHEDULE, SHIPPED

    for part, network in (("unet", unet()), ("vae", vae()), ("text_encoder", text())):
        network.save_pretrained(folder / part)
    shutil.copytree(SHIPPED / "tokenizer", folder / "tokenizer")
    (folder / "scheduler").mkdir()
    schedule = {"_class_name": "PNDMScheduler", "steps_offset": 1, **SCHEDULE}
    (folder / SCHEDULER).write_text(json.dumps(schedule))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "PNDMScheduler"],
    }
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def unet(**changes: Any) -> Any:
    """A UNet of three levels."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    facts: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (16, 32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**(facts | changes))


def vae(**changes: Any) -> Any:
    """An autoencoder of three levels: four pixels for one latent."""
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    facts: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (16, 16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 64,
    }
    return AutoencoderKL(**(facts | changes))


def text(width: int = 24, **changes: Any) -> Any:
    """A text encoder of two layers for the shipped model's words."""
    import json

    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests.small_models import SHIPPED

    torch.manual_seed(2)
    shipped = json.loads((SHIPPED / "text_encoder" / "config.json").read_text())
    names = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
    facts = {name: shipped[name] for name in names} | {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "projection_dim": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 24,
    }
    return CLIPTextModel(CLIPTextConfig(**(facts | changes)))


def copy(kit: Kit, folder: Path) -> Path:
    """A copy of the base, named ``m``."""
    return Path(shutil.copytree(kit.base, folder / "m"))


def keys(file: str, **changes: Any) -> Make:
    """A copy with other keys in one JSON file."""
    return lambda kit, folder: edit(copy(kit, folder) / file, **changes)


def without(name: str) -> Make:
    """A copy that lacks a file or a folder."""

    def make(kit: Kit, folder: Path) -> None:
        path = copy(kit, folder) / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return make


def content(name: str, change: Callable[[bytes], bytes]) -> Make:
    """A copy with other bytes in one file."""

    def make(kit: Kit, folder: Path) -> None:
        path = copy(kit, folder) / name
        path.write_bytes(change(path.read_bytes()))

    return make


def part(name: str, network: Callable[[], Any], **saving: Any) -> Make:
    """A copy with another network as one of its parts."""

    def make(kit: Kit, folder: Path) -> None:
        path = copy(kit, folder) / name
        shutil.rmtree(path)
        network().save_pretrained(path, **saving)

    return make


def weights(change: Callable[[dict[str, Any]], dict[str, Any]], name: str = WEIGHTS) -> Make:
    """A copy with other tensors in one file of weights."""

    def make(kit: Kit, folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = copy(kit, folder) / name
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    return make
