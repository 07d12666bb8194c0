"""Load a diffusers folder or hub id as components, from safetensors only, in fp32."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from engines.components import Components
from engines.errors import EngineError
from engines.validate import (
    read_configurations,
    read_object,
    require_complete,
    run_once,
    silenced,
    unsupported_feature,
)

# Without low_cpu_mem_usage=False diffusers advises to install another package.
_DIFFUSERS = {
    "torch_dtype": torch.float32,
    "use_safetensors": True,
    "low_cpu_mem_usage": False,
    "output_loading_info": True,
}
# Without ignore_mismatched_sizes transformers raises an error that points to a silenced report.
_TRANSFORMERS = {
    "dtype": torch.float32,
    "use_safetensors": True,
    "output_loading_info": True,
    "ignore_mismatched_sizes": True,
}
_INDEX = "model_index.json"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_SECOND = ("text_encoder_2", "tokenizer_2")
"""The further parts of SDXL."""


def load(source: str | Path) -> Components:
    """Load a diffusers folder, or download a hub id.

    Raises EngineError if the source is no supported model, or a file is missing or damaged.
    """
    folder = _folder(source)
    transformers_logging.disable_progress_bar()
    is_double = _is_double(read_object(folder / _INDEX))
    schedule = read_configurations(folder, is_double)
    with silenced():
        components = _read(folder, schedule)
    for name, part in components.networks.items():
        part.requires_grad_(False).eval()
        broken = [
            key for key, value in part.state_dict().items() if not bool(torch.isfinite(value).all())
        ]
        if broken:
            raise EngineError(
                f"{folder / name}: {broken[0]} holds NaN or infinite weights; "
                "fetch or export it again"
            )
    reason = unsupported_feature(components)
    if reason:
        raise EngineError(
            f"the model in {folder} {reason}; give one that generates from text and noise alone: "
            "Stable Diffusion 1 or 2, or SDXL's base"
        )
    try:
        run_once(components)
    except Exception as error:
        raise EngineError(
            f"the model in {folder} does not work: {_first_line(error)}; fetch or export it again"
        ) from error
    return components


def _read(folder: Path, schedule: dict[str, Any]) -> Components:
    try:
        index = read_object(folder / _INDEX)
        parts = {
            "unet": require_complete(
                UNet2DConditionModel.from_pretrained(folder / "unet", **_DIFFUSERS)
            ),
            "vae": require_complete(AutoencoderKL.from_pretrained(folder / "vae", **_DIFFUSERS)),
            "text_encoder": require_complete(
                CLIPTextModel.from_pretrained(folder / "text_encoder", **_TRANSFORMERS)
            ),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        }
        if _is_double(index):
            second = CLIPTextModelWithProjection.from_pretrained(
                folder / "text_encoder_2", **_TRANSFORMERS
            )
            parts["text_encoder_2"] = require_complete(second)
            parts["tokenizer_2"] = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        zeros_if_empty = _is_double(index) and bool(index.get("force_zeros_for_empty_prompt", True))
        return Components(**parts, schedule=schedule, zeros_if_empty=zeros_if_empty)
    except Exception as error:
        # The libraries raise anything from OSError to KeyError for a damaged folder.
        raise EngineError(
            f"cannot load the model in {folder}: {_first_line(error)}; fetch or export it again"
        ) from error


def _is_double(index: dict[str, Any]) -> bool:
    """Whether a model's index names a second text encoder; an absent part is a pair of nulls."""
    second = index.get("text_encoder_2")
    return isinstance(second, list) and bool(second) and second[0] is not None


def _folder(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        index = folder / _INDEX
        if not index.is_file():
            raise EngineError(
                f"{folder} is not a diffusers model folder: it has no model_index.json"
            )
        parts = (*_PARTS, *_SECOND) if _is_double(read_object(index)) else _PARTS
        missing = [part for part in parts if not (folder / part).is_dir()]
        if missing:
            raise EngineError(f"{folder} is not a whole model: its folder {missing[0]}/ is missing")
        return folder
    if (
        isinstance(source, Path)
        or folder.exists()
        or str(source).startswith((".", "/"))
        or str(source).count("/") != 1
    ):
        raise EngineError(
            f"{source} is neither a diffusers model folder nor a hub id of the form owner/name"
        )
    from huggingface_hub import snapshot_download

    patterns = [
        _INDEX,
        *(
            f"{part}/*.{kind}"
            for part in (*_PARTS, *_SECOND)
            for kind in ("json", "txt", "safetensors")
        ),
    ]
    try:
        # Variants hold the same weights again, in another precision.
        return Path(
            snapshot_download(
                str(source), allow_patterns=patterns, ignore_patterns=["*.fp16.*", "*.non_ema.*"]
            )
        )
    except Exception as error:
        raise EngineError(
            f"cannot fetch {source} from the hub ({_first_line(error)}); "
            "give a local diffusers folder with --model"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], 200, placeholder="...").rstrip(".")
