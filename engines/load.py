"""Load a diffusers folder or hub id as components, from safetensors only, in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from engines.components import Components
from engines.configurations import INDEX, Configuration, read_object
from engines.errors import EngineError
from engines.kinds import supported_configurations
from engines.stored_weights import has_weights, variant_of
from engines.validate import advice, quoted, require_complete, run_once, silenced

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
_NETWORKS = ("unet", "vae", "text_encoder")
_PARTS = (*_NETWORKS, "tokenizer", "scheduler")
_SECOND = ("text_encoder_2", "tokenizer_2")
"""The further parts of SDXL."""


def load(source: str | Path) -> Components:
    """Load a diffusers folder, or download a hub id.

    Raises EngineError if the source is no supported model, or a file is missing or damaged.
    """
    folder = _folder(source)
    transformers_logging.disable_progress_bar()
    found = supported_configurations(folder)
    variants = {part: variant_of(folder / part) for part in found if part != "scheduler"}
    with silenced():
        components = _read(folder, found, variants)
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
    require_working(components, folder)
    return components


def require_working(components: Components, folder: Path) -> None:
    """Run every part once. Raises EngineError if one does not work."""
    try:
        run_once(components)
    except Exception as error:
        raise EngineError(
            f"the model in {folder} does not work: {quoted(error)}; "
            "correct its configurations, or give parts that fit"
        ) from error


def with_sizes(components: Components, found: dict[str, Configuration]) -> Components:
    """Say the sizes of latents and images as single numbers in the networks' configurations."""
    components.unet.register_to_config(sample_size=found["unet"]["sample_size"])
    if not isinstance(components.vae.config.sample_size, int):
        components.vae.register_to_config(sample_size=components.image_side)
    return components


def _read(
    folder: Path, found: dict[str, Configuration], variants: dict[str, str | None]
) -> Components:
    try:
        parts = {
            "unet": _network(UNet2DConditionModel, folder / "unet", _DIFFUSERS, variants),
            "vae": _network(AutoencoderKL, folder / "vae", _DIFFUSERS, variants),
            "text_encoder": _network(
                CLIPTextModel, folder / "text_encoder", _TRANSFORMERS, variants
            ),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        }
        double = "text_encoder_2" in found
        if double:
            parts["text_encoder_2"] = _network(
                CLIPTextModelWithProjection, folder / "text_encoder_2", _TRANSFORMERS, variants
            )
            parts["tokenizer_2"] = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        index = read_object(folder / INDEX)
        zeros_if_empty = double and bool(index.get("force_zeros_for_empty_prompt", True))
        read = Components(**parts, schedule=found["scheduler"], zeros_if_empty=zeros_if_empty)
        return with_sizes(read, found)
    except Exception as error:
        # The libraries raise anything from OSError to KeyError for a damaged folder.
        raise EngineError(
            f"cannot load the model in {folder}: {quoted(error)}; {advice(error)}"
        ) from error


def _network(
    kind: Any, folder: Path, options: dict[str, Any], variants: dict[str, str | None]
) -> Any:
    variant = variants[folder.name]
    return require_complete(kind.from_pretrained(folder, variant=variant, **options))


def _folder(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
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
        INDEX,
        *(
            f"{part}/*.{kind}"
            for part in (*_PARTS, *_SECOND)
            for kind in ("json", "txt", "safetensors")
        ),
    ]
    # Variants hold the same weights again, in another precision.
    half, others = ["*.fp16.*", "*.fp16-*"], ["*.non_ema.*", "*.non_ema-*"]
    try:
        fetched = Path(
            snapshot_download(
                str(source), allow_patterns=patterns, ignore_patterns=[*half, *others]
            )
        )
        lacking = _without_weights(fetched)
        if not lacking:
            return fetched
        kept = [
            f"{part}/{pattern}"
            for part in (*_PARTS, *_SECOND)
            if part not in lacking
            for pattern in half
        ]
        return Path(
            snapshot_download(
                str(source), allow_patterns=patterns, ignore_patterns=[*kept, *others]
            )
        )
    except Exception as error:
        raise EngineError(
            f"cannot fetch {source} from the hub ({quoted(error)}); "
            "give a local diffusers folder with --model"
        ) from error


def _without_weights(folder: Path) -> list[str]:
    """The networks' folders that hold configurations and no plain weights."""
    return [
        part
        for part in (*_NETWORKS, "text_encoder_2")
        if (folder / part / "config.json").is_file() and not has_weights(folder / part)
    ]
