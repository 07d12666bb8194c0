"""Which UNets are supported, by what a folder's classes and configurations say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
from diffusers import AutoencoderKL, UNet2DConditionModel

from engines.configurations import (
    INDEX,
    Configuration,
    class_in,
    defaults_of,
    filled,
    filled_schedule,
    names_of,
    read_configurations,
    read_object,
    require_folder,
    text_parts,
)
from engines.errors import EngineError
from engines.families.unet.sizes import other_size
from engines.family import UNUSED, Classes, Family
from engines.samplers import FLOW
from engines.stored_weights import adapter_in, quantised_in

_ARCHITECTURES = ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel")
_PREDICTIONS = ("epsilon", "sample", "v_prediction")
_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
"""What the sampler (LMS) knows."""


def supported_configurations(
    family: Family, folder: Path, index: Configuration
) -> dict[str, Configuration]:
    """Every part's configuration with its class's defaults, checked as far as files can tell.

    Raises EngineError for a kind of model that is not supported, a missing part, and sizes that
    are none or do not fit one another.
    """

    def refuse(reason: str | None) -> None:
        family.refuse(folder, reason)

    classes = {**family.networks, **family.tokenizers}
    refuse(_other_class(classes, index))
    networks = [part for part in family.present(index) if part in family.networks]
    tokenizers = [part for part in family.present(index) if part in family.tokenizers]
    for part in (*networks, *tokenizers, "scheduler"):
        require_folder(folder, part)
    found = read_configurations(folder, networks)
    refuse(_other_configuration(family.networks, found))
    for part in tokenizers:
        refuse(_other_tokenizer(folder / part))
    refuse(_other_scheduler(found["scheduler"], index))
    found["scheduler"] = filled_schedule(folder, found["scheduler"], index)
    found["unet"] = filled(UNet2DConditionModel, found["unet"])
    found["vae"] = filled(AutoencoderKL, found["vae"])
    refuse(_other_network(SimpleNamespace(**found["unet"])))
    refuse(other_size(folder, found, text_parts(index)))
    for part in networks:
        if adapter := adapter_in(folder / part):
            refuse(
                f"holds an adapter such as a LoRA in its {part} ({adapter}), where one that is "
                "fused into the weights is supported",
            )
        if name := quantised_in(folder / part):
            refuse(f"has quantised weights in its {part} ({name})")
    return found


def _other_class(classes: Classes, index: Configuration) -> str | None:
    pipeline = index.get("_class_name")
    named = {part: class_in(index, part) for part in index}
    for part, name in named.items():
        if name and part not in classes and part not in UNUSED:
            return f"has a {part} ({name}), which is no part of these pipelines"
    for part, entry in index.items():
        name = named[part]
        if part in classes and name and name not in classes[part]:
            return f"has {name} as its {part}, where {classes[part][0]} is supported"
        if part in classes and not name and entry not in (None, [None, None]):
            raise EngineError(
                f"{INDEX} gives {part} as {str(entry)[:60]}, where a library and a class are "
                "expected; fetch or export the model again"
            )
    for part in ("unet", "vae", *text_parts(index), *text_parts(index, "tokenizer")):
        if part in index and class_in(index, part) is None:
            return f"has no {part}"
    name = str(pipeline or "StableDiffusionPipeline")
    if name != "DiffusionPipeline" and (
        not name.startswith("StableDiffusion") or name.startswith("StableDiffusion3")
    ):
        return f"is made for {name}"
    return None


def _other_configuration(classes: Classes, found: dict[str, Configuration]) -> str | None:
    for part, config in found.items():
        if part == "scheduler":
            continue
        if config.get("quantization_config"):
            return f"has quantised weights in its {part}"
        known = _ARCHITECTURES if part.startswith("text") else classes[part]
        other = [name for name in names_of(config) if name not in known]
        if other:
            return f"has {other[0]} as its {part}, where {classes[part][0]} is supported"
        kind = config.get("model_type")
        if part.startswith("text") and isinstance(kind, str) and not kind.startswith("clip"):
            return f"has a text encoder of type {kind}, where CLIP's is supported"
    return None


def _other_tokenizer(folder: Path) -> str | None:
    file = folder / "tokenizer_config.json"
    name = read_object(file).get("tokenizer_class") if file.is_file() else None
    known = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
    if isinstance(name, str) and name not in known:
        return f"has {name} as its {folder.name}, where CLIPTokenizer is supported"
    return None


def _other_scheduler(config: Configuration, index: Configuration) -> str | None:
    for name in (config.get("_class_name"), class_in(index, "scheduler")):
        if name is None:
            continue
        kind = getattr(diffusers, str(name), None)
        # A class whose library is missing here is a stand-in without arguments.
        if isinstance(kind, type) and hasattr(kind, "_backends"):
            continue
        known = defaults_of(kind) if isinstance(kind, type) else {}
        if not {"beta_start", "beta_end", "beta_schedule"} <= known.keys():
            return f"has {name} as its scheduler, which has no noise schedule given by betas"
    kind = getattr(diffusers, str(config.get("_class_name") or class_in(index, "scheduler")), None)
    config = (defaults_of(kind) if isinstance(kind, type) else {}) | config
    prediction, betas = config.get("prediction_type", "epsilon"), config.get("beta_schedule")
    as_flow = config.get("use_flow_sigmas") is True and prediction == FLOW
    if isinstance(prediction, str) and prediction not in _PREDICTIONS and not as_flow:
        return (
            f"predicts {prediction} by its scheduler's prediction_type, where "
            f"{', '.join(_PREDICTIONS)} are supported"
        )
    if config.get("use_flow_sigmas") is True and not as_flow:
        return f"is sampled as a flow by its scheduler (use_flow_sigmas) and predicts {prediction}"
    if isinstance(betas, str) and betas not in _BETAS and config.get("trained_betas") is None:
        return f"has the beta_schedule {betas}, where {', '.join(_BETAS)} are supported"
    if config.get("timestep_type", "discrete") != "discrete":
        return f"takes timesteps that are {config['timestep_type']}, where discrete are supported"
    if config.get("snr_shift_scale", 1.0) != 1.0:
        return "shifts the signal-to-noise ratio of its noise schedule (snr_shift_scale)"
    if config.get("rescale_betas_zero_snr"):
        return (
            "is trained to a signal-to-noise ratio of zero, "
            "which the sampler (LMS) cannot start from"
        )
    return None


def _other_network(unet: Any) -> str | None:
    if unet.dual_cross_attention:
        return "has a UNet with dual cross attention (dual_cross_attention)"
    if unet.num_attention_heads is not None:
        return "gives its heads as num_attention_heads, where attention_head_dim is supported"
    if unet.attention_type != "default":
        return f"takes boxes or images as inputs (attention_type is {unet.attention_type})"
    if unet.encoder_hid_dim is not None or unet.encoder_hid_dim_type is not None:
        return (
            "projects the text in its UNet "
            f"({unet.encoder_hid_dim_type or 'text_proj'}, of encoder_hid_dim)"
        )
    if (
        unet.class_embed_type is not None
        or unet.num_class_embeds is not None
        or unet.time_cond_proj_dim is not None
    ):
        return "takes a class or a strength of guidance as an input"
    for key in ("cross_attention_dim", "sample_size"):
        value = getattr(unet, key)
        if isinstance(value, list | tuple) and len(set(map(str, value))) > 1:
            what = "has latents that are not square" if key == "sample_size" else "reads many texts"
            return f"{what} ({key} is {list(value)})"
    return None
