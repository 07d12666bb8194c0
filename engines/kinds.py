"""Which kinds of models are supported, by what a folder's classes and configurations say.

Nothing here reads weights, so that a plan, random weights and a run refuse the same folders.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers

from engines.configurations import (
    INDEX,
    Configuration,
    class_in,
    defaults_of,
    filled_schedule,
    network_defaults,
    read_configurations,
    read_object,
    side_of,
    text_configuration,
    text_parts,
    whole,
)
from engines.errors import EngineError
from engines.prompt import pooled_width, takes_added_conditions
from engines.stored_weights import adapter_in, quantised_in
from engines.validate import silenced

_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
_ARCHITECTURES = ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel")
_UNUSED = ("scheduler", "safety_checker", "feature_extractor", "image_encoder")
"""Parts that do not decide here, or that text and noise do not need."""
_PREDICTIONS = ("epsilon", "sample", "v_prediction")
_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
"""What the sampler (LMS) knows."""


def supported_configurations(folder: Path) -> dict[str, Configuration]:
    """Every part's configuration with its class's defaults, checked as far as files can tell.

    Raises EngineError for a kind of model that is not supported, a missing part, and sizes that
    are none or do not fit one another.
    """
    if not (folder / INDEX).is_file():
        raise EngineError(f"{folder} is not a diffusers model folder: it has no {INDEX}")
    index = read_object(folder / INDEX)
    refuse(folder, _other_class(index))
    parts = (*text_parts(index), *text_parts(index, "tokenizer"))
    for part in ("unet", "vae", *parts, "scheduler"):
        if not (folder / part).is_dir():
            raise EngineError(f"{folder} is not a whole model: its folder {part}/ is missing")
    found = read_configurations(folder, index)
    refuse(folder, _other_configuration(found))
    for part in text_parts(index, "tokenizer"):
        refuse(folder, _other_tokenizer(folder / part))
    refuse(folder, _other_scheduler(found["scheduler"], index))
    found["scheduler"] = filled_schedule(folder, found["scheduler"], index)
    for part in ("unet", "vae"):
        found[part] = network_defaults(part, found[part])
    refuse(folder, _other_network(SimpleNamespace(**found["unet"])))
    _check_sizes(folder, found, text_parts(index))
    for part in ("unet", "vae", *text_parts(index)):
        if adapter := adapter_in(folder / part):
            refuse(
                folder,
                f"holds an adapter such as a LoRA in its {part} ({adapter}), where one that is "
                "fused into the weights is supported",
            )
        if name := quantised_in(folder / part):
            refuse(folder, f"has quantised weights in its {part} ({name})")
    return found


def refuse(folder: Path, reason: str | None) -> None:
    """Raise EngineError if there is a reason, the end of a sentence about the model."""
    if reason:
        raise EngineError(
            f"the model in {folder} is not supported: it {reason}; supported are models that "
            "generate from text and noise alone: Stable Diffusion 1 or 2, or SDXL's base"
        )


def _other_class(index: Configuration) -> str | None:
    pipeline = index.get("_class_name")
    named = {part: class_in(index, part) for part in index}
    for part, name in named.items():
        if name and part not in _CLASSES and part not in _UNUSED:
            return f"has a {part} ({name}), which is no part of these pipelines"
    for part, entry in index.items():
        name = named[part]
        if part in _CLASSES and name and name not in _CLASSES[part]:
            return f"has {name} as its {part}, where {_CLASSES[part][0]} is supported"
        if part in _CLASSES and not name and entry not in (None, [None, None]):
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


def _other_configuration(found: dict[str, Configuration]) -> str | None:
    for part, config in found.items():
        if part == "scheduler":
            continue
        if config.get("quantization_config"):
            return f"has quantised weights in its {part}"
        names: Any = config.get("_class_name", config.get("architectures"))
        names = names if isinstance(names, list) else [names]
        known = _ARCHITECTURES if part.startswith("text") else _CLASSES[part]
        other = [name for name in names if isinstance(name, str) and name not in known]
        if other:
            return f"has {other[0]} as its {part}, where {_CLASSES[part][0]} is supported"
        kind = config.get("model_type")
        if part.startswith("text") and isinstance(kind, str) and not kind.startswith("clip"):
            return f"has a text encoder of type {kind}, where CLIP's is supported"
    return None


def _other_tokenizer(folder: Path) -> str | None:
    file = folder / "tokenizer_config.json"
    name = read_object(file).get("tokenizer_class") if file.is_file() else None
    known = (*_CLASSES["tokenizer"], "PreTrainedTokenizerFast", "TokenizersBackend")
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
    if isinstance(prediction, str) and prediction not in _PREDICTIONS:
        return (
            f"predicts {prediction} by its scheduler's prediction_type, where "
            f"{', '.join(_PREDICTIONS)} are supported"
        )
    if config.get("use_flow_sigmas") is True:
        return "is sampled as a flow by its scheduler (use_flow_sigmas)"
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


def _check_sizes(folder: Path, found: dict[str, Configuration], encoders: tuple[str, ...]) -> None:
    unet, vae = found["unet"], found["vae"]
    unet["sample_size"] = side_of(unet["sample_size"], folder / "unet" / "config.json")
    for part, keys in (
        ("unet", ("in_channels", "out_channels", "cross_attention_dim")),
        ("vae", ("latent_channels", "in_channels", "out_channels")),
    ):
        for key in keys:
            whole(found[part][key], folder / part / "config.json", key)
    sides = vae["sample_size"]
    for side in sides if isinstance(sides, list | tuple) and len(sides) == 2 else [sides]:
        whole(side, folder / "vae" / "config.json", "sample_size")
    refuse(folder, _other_channels(SimpleNamespace(**unet), SimpleNamespace(**vae)))
    with silenced():
        texts = [text_configuration(folder, part) for part in encoders]
    reads, added = SimpleNamespace(**unet), takes_added_conditions(SimpleNamespace(**unet))
    if added != (len(texts) == 2) or reads.addition_embed_type not in (None, "text_time"):
        reason = (
            f"reads {reads.addition_embed_type or 'nothing'} besides the words, "
            "which its text encoders do not give"
        )
        refuse(folder, reason)
    width = sum(int(text.hidden_size) for text in texts)
    if width != reads.cross_attention_dim:
        raise EngineError(
            f"the parts of the model in {folder} do not fit: its text "
            f"{'encoders give' if len(texts) == 2 else 'encoder gives'} words of width {width} "
            f"(hidden_size) where its UNet reads words of width {reads.cross_attention_dim} "
            "(cross_attention_dim); give parts of one model"
        )
    if added:
        for key in ("projection_class_embeddings_input_dim", "addition_time_embed_dim"):
            whole(unet[key], folder / "unet" / "config.json", key)
        if pooled_width(reads) != int(texts[1].projection_dim):
            refuse(folder, "takes other numbers of the image than its sizes and its crop")


def _other_channels(unet: Any, vae: Any) -> str | None:
    if unet.in_channels != vae.latent_channels:
        return f"takes {unet.in_channels} channels where its autoencoder has {vae.latent_channels}"
    if unet.out_channels != unet.in_channels:
        return f"gives {unet.out_channels} channels where it takes {unet.in_channels}"
    if (vae.in_channels, vae.out_channels) != (3, 3):
        return f"decodes images of {vae.out_channels} channels, where three are supported"
    if vae.latents_mean is not None or vae.latents_std is not None or vae.shift_factor is not None:
        return "shifts the latents of its autoencoder"
    return None
