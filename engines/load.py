"""Open a model: a diffusers folder or hub id becomes its components, from safetensors alone and on the CPU in fp32."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, LMSDiscreteScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from engines.errors import EngineError

# Without low_cpu_mem_usage=False diffusers advises, at length, to install another package.
_DIFFUSERS = {
    "torch_dtype": torch.float32,
    "use_safetensors": True,
    "low_cpu_mem_usage": False,
    "output_loading_info": True,
}
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
DECODE_BATCH = 4
"""Pictures decoded and prompts embedded at once, padded to this number, so that no caller's batch changes a bit."""


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a latent diffusion model."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    schedule: dict[str, Any]
    """Configuration of the noise schedule, as diffusers schedulers take it."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        side = int(self.unet.config.sample_size)
        return int(self.unet.config.in_channels), side, side

    def scheduler(self, steps: int) -> LMSDiscreteScheduler:
        """The paper's sampler, set to ``steps`` steps."""
        known = (
            "beta_start",
            "beta_end",
            "beta_schedule",
            "num_train_timesteps",
            "prediction_type",
            "steps_offset",
        )
        scheduler = LMSDiscreteScheduler(
            **{key: self.schedule[key] for key in known if key in self.schedule}, timestep_spacing="linspace"
        )
        scheduler.set_timesteps(steps)
        return scheduler

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "n words width"]:
        """Text embeddings; longer prompts are cut at the tokenizer's length, as diffusers cuts them."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return padded(lambda ids: self.text_encoder(ids).last_hidden_state, tokens)

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 height width"]:
        """Pictures in 0..1 of scaled latents."""
        scale = float(self.vae.config.scaling_factor)
        return padded(lambda z: (self.vae.decode(z / scale).sample / 2 + 0.5).clamp(0, 1), latents)

    @torch.inference_mode()
    def encode(self, pictures: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n c h w"]:
        """Scaled mean latents of pictures in 0..1."""
        scale = float(self.vae.config.scaling_factor)
        return padded(lambda x: self.vae.encode(x * 2 - 1).latent_dist.mean * scale, pictures)


def padded(call: Any, rows: Tensor) -> Tensor:
    """Apply ``call`` to chunks of exactly ``DECODE_BATCH`` rows, the last one padded with copies of its last row."""
    parts = []
    for start in range(0, len(rows), DECODE_BATCH):
        chunk = rows[start : start + DECODE_BATCH]
        short = DECODE_BATCH - len(chunk)
        full = torch.cat([chunk, chunk[-1:].expand(short, *chunk.shape[1:])]) if short else chunk
        parts.append(call(full)[: len(chunk)])
    return torch.cat(parts)


def load(source: str | Path) -> Components:
    """Load a diffusers folder, or fetch a hub id.

    Raises EngineError when the source is not a model of this kind or a file of it is missing or damaged.
    """
    folder = _folder(source)
    transformers_logging.disable_progress_bar()
    try:
        parts = {
            "unet": _whole(UNet2DConditionModel.from_pretrained(folder / "unet", **_DIFFUSERS)),
            "vae": _whole(AutoencoderKL.from_pretrained(folder / "vae", **_DIFFUSERS)),
            "text_encoder": _whole(
                CLIPTextModel.from_pretrained(
                    folder / "text_encoder", dtype=torch.float32, use_safetensors=True, output_loading_info=True
                )
            ),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        }
        schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except Exception as error:
        # The libraries raise anything from OSError to KeyError for a damaged folder; all of it is the folder's fault.
        raise EngineError(
            f"cannot load the model in {folder}: {_first_line(error)}; fetch or export it again"
        ) from error
    for name in ("unet", "vae", "text_encoder"):
        part = parts[name]
        part.requires_grad_(False).eval()
        broken = [key for key, value in part.state_dict().items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise EngineError(f"{folder / name}: {broken[0]} holds NaN or infinite weights; fetch or export it again")
    return Components(**parts, schedule=schedule)


def _whole(loaded: tuple[nn.Module, dict[str, Any]]) -> nn.Module:
    """The module, unless weights are missing: the libraries would draw them at random and go on."""
    module, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"the weights of {type(module).__name__} lack {missing[0]}")
    return module


def _folder(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        index = folder / "model_index.json"
        if not index.is_file():
            raise EngineError(f"{folder} is not a diffusers model folder: it has no model_index.json")
        missing = [part for part in _PARTS if not (folder / part).is_dir()]
        if missing:
            raise EngineError(f"{folder} is not a whole model: its folder {missing[0]}/ is missing")
        return folder
    if isinstance(source, Path) or folder.exists() or str(source).startswith((".", "/")) or str(source).count("/") != 1:
        raise EngineError(f"{source} is neither a diffusers model folder nor a hub id of the form owner/name")
    from huggingface_hub import snapshot_download

    patterns = [
        "model_index.json",
        *(f"{part}/*.{kind}" for part in _PARTS for kind in ("json", "txt", "safetensors")),
    ]
    try:
        # Variants hold the same weights again, in another precision.
        return Path(
            snapshot_download(str(source), allow_patterns=patterns, ignore_patterns=["*.fp16.*", "*.non_ema.*"])
        )
    except Exception as error:
        raise EngineError(
            f"cannot fetch {source} from the hub ({_first_line(error)}); give a local diffusers folder with --model"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], 200, placeholder="...").rstrip(".")
