"""Kinds of models: what is not supported is named, with weights of the model and random ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.components import Components
from engines.errors import EngineError
from engines.load import load
from engines.models.tiny import MODEL
from engines.random_weights import random_components

ZOO = Path(__file__).parents[2] / "engines" / "zoo"
WORDS = Path(MODEL.source) / "tokenizer"
INDEX, UNET, VAE = "model_index.json", "unet/config.json", "vae/config.json"
TEXT, SCHEDULER = "text_encoder/config.json", "scheduler/scheduler_config.json"
CALLS: list[Callable[[Path], object]] = [
    load,
    lambda folder: random_components(folder, WORDS),
]


@pytest.fixture
def fresh(small_models: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copies a small model."""
    return lambda kind: Path(shutil.copytree(small_models[kind], tmp_path / kind))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusals(folder: Path) -> str:
    """The sentence that loading and drawing agree on."""
    messages = set()
    for call in CALLS:
        with pytest.raises(EngineError) as caught:
            call(folder)
        messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    assert ". " not in message
    assert len(message) < 500
    return message


UNSUPPORTED: list[tuple[str, str, dict[str, Any], str]] = [
    ("sd2", INDEX, {"vae": ["diffusers", "AutoencoderTiny"]}, "AutoencoderTiny as its vae"),
    ("sd2", INDEX, {"vae": ["diffusers", "ConsistencyDecoderVAE"]}, "ConsistencyDecoderVAE"),
    ("sd2", INDEX, {"unet": ["diffusers", "FlaxUNet2DConditionModel"]}, "FlaxUNet2DCondition"),
    ("sd2", INDEX, {"transformer": ["diffusers", "FluxTransformer2DModel"]}, "FluxTransformer"),
    ("sd2", INDEX, {"prior": ["diffusers", "PriorTransformer"]}, "a prior (PriorTransformer)"),
    ("sd2", INDEX, {"text_encoder": ["transformers", "T5EncoderModel"]}, "T5EncoderModel"),
    ("sd2", INDEX, {"tokenizer": ["transformers", "BertTokenizer"]}, "BertTokenizer"),
    ("sdxl", INDEX, {"text_encoder": [None, None]}, "has no text_encoder"),
    ("sd2", VAE, {"_class_name": "AsymmetricAutoencoderKL"}, "AsymmetricAutoencoderKL"),
    ("sd2", UNET, {"_class_name": "UNetMotionModel"}, "UNetMotionModel as its unet"),
    ("sd2", TEXT, {"architectures": ["XLMRobertaModel"]}, "XLMRobertaModel"),
    ("sd2", TEXT, {"architectures": None, "model_type": "t5"}, "type t5"),
    ("sd2", UNET, {"quantization_config": {"load_in_4bit": True}}, "quantised weights"),
    ("sd2", "tokenizer/tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}, "T5Tokenizer"),
    ("sd2", SCHEDULER, {"prediction_type": "flow_prediction"}, "predicts flow_prediction"),
    ("sd2", SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEuler"),
    ("sd2", SCHEDULER, {"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
    ("sd2", SCHEDULER, {"_class_name": "OurScheduler"}, "OurScheduler"),
    ("sd2", SCHEDULER, {"_class_name": "CogVideoXDDIMScheduler"}, "snr_shift_scale"),
    ("sd2", INDEX, {"scheduler": ["diffusers", "FlowMatchHeunDiscreteScheduler"]}, "FlowMatchH"),
    ("sd2", SCHEDULER, {"use_flow_sigmas": True}, "use_flow_sigmas"),
    ("sd2", SCHEDULER, {"beta_schedule": "sigmoid"}, "beta_schedule sigmoid"),
    ("sd2", SCHEDULER, {"timestep_type": "continuous"}, "timesteps that are continuous"),
    ("sd2", UNET, {"dual_cross_attention": True}, "dual cross attention"),
    ("sd2", UNET, {"attention_type": "gated"}, "takes boxes"),
    ("sd2", UNET, {"encoder_hid_dim": 48}, "projects the text"),
    ("sd2", UNET, {"encoder_hid_dim_type": "ip_image_proj"}, "ip_image_proj"),
    ("sd2", UNET, {"num_attention_heads": [2, 4, 4, 4]}, "num_attention_heads"),
    ("sd2", UNET, {"time_cond_proj_dim": 16}, "strength of guidance"),
    ("sd2", UNET, {"in_channels": 9}, "takes 9 channels where its autoencoder has 4"),
    ("sd2", UNET, {"out_channels": 8}, "gives 8 channels where it takes 4"),
    ("sd2", VAE, {"in_channels": 6, "out_channels": 6}, "images of 6 channels"),
    ("sd2", VAE, {"latents_mean": [0.1] * 4}, "shifts the latents"),
    ("sd2", UNET, {"sample_size": [12, 16]}, "not square (sample_size is [12, 16])"),
    ("sd2", UNET, {"cross_attention_dim": [16, 24, 24, 24]}, "cross_attention_dim is [16"),
    ("sdxl", UNET, {"addition_time_embed_dim": 4}, "other numbers of the image"),
]


@pytest.mark.parametrize("pipeline", ["FluxPipeline", "StableDiffusion3Pipeline"])
def test_a_folder_that_names_another_family_says_what_it_lacks(
    fresh: Callable[[str], Path], pipeline: str
) -> None:
    folder = fresh("sd2")
    edit(folder / INDEX, _class_name=pipeline)
    assert "is not supported: it has no transformer; supported is " in refusals(folder)


@pytest.mark.parametrize(("kind", "file", "changes", "named"), UNSUPPORTED)
def test_what_is_not_supported_is_named_and_not_called_damaged(
    fresh: Callable[[str], Path], kind: str, file: str, changes: dict[str, Any], named: str
) -> None:
    folder = fresh(kind)
    edit(folder / file, **changes)
    message = refusals(folder)
    assert "is not supported: it " in message
    assert "Stable Diffusion 1 or 2, or SDXL's base" in message
    assert named in message
    assert "again" not in message


def test_a_flow_is_sampled_by_its_own_sampler() -> None:
    for call in CALLS:
        parts = call(ZOO / "unet-flow-0")
        assert isinstance(parts, Components)
        assert parts.sampler_name == "model"
        assert parts.sampler(4).predicts == "flow_prediction"


def test_a_model_of_no_family_is_named_with_the_families(fresh: Callable[[str], Path]) -> None:
    folder = fresh("sd2")
    others = {"transformer": ["diffusers", "OurTransformer2DModel"], "_class_name": "OurPipeline"}
    (folder / INDEX).write_text(json.dumps(others))
    message = refusals(folder)
    assert "is not supported: it is made for OurPipeline; supported are " in message


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "mid_block.attentions.0.proj_in.base_layer.weight"),
        ("unet", "mid_block.attentions.0.processor.to_q_lora.down.weight"),
        ("text_encoder", "encoder.layers.0.self_attn.q_proj.lora_A.default.weight"),
        ("unet", "mid_block.attentions.0.proj_in.hada_w1_a"),
        ("vae", "decoder.conv_in.lora.up.weight"),
    ],
)
def test_an_adapter_that_is_not_fused_is_named(
    fresh: Callable[[str], Path], part: str, name: str
) -> None:
    folder = fresh("sd2")
    (file,) = (folder / part).glob("*.safetensors")
    save_file(load_file(file) | {name: torch.zeros(2, 2)}, file, metadata={"format": "pt"})
    message = refusals(folder)
    assert "is not supported: it holds an adapter such as a LoRA" in message
    assert name in message
    assert "again" not in message


@pytest.mark.parametrize(
    ("kind", "file", "changes", "said"),
    [
        ("sd2", UNET, {"cross_attention_dim": 32}, ("width 24", "width 32")),
        ("sd2", TEXT, {"hidden_size": 20}, ("width 20", "width 24")),
        ("sdxl", "text_encoder_2/config.json", {"hidden_size": 32}, ("width 48", "width 40")),
        ("sdxl", UNET, {"cross_attention_dim": 24}, ("width 40", "width 24")),
        ("sd2", UNET, {"sample_size": None}, ("sample_size is null", "set it")),
        ("sd2", UNET, {"sample_size": "many"}, ("sample_size is many", "whole number")),
        ("sd2", UNET, {"sample_size": 0}, ("sample_size is 0", "whole number")),
        ("sd2", UNET, {"cross_attention_dim": None}, ("cross_attention_dim is None",)),
        ("sd2", VAE, {"latent_channels": 1.5}, ("latent_channels is 1.5", "whole number")),
        ("sd2", VAE, {"sample_size": None}, ("sample_size is None", "whole number")),
        ("sd2", INDEX, {"unet": "UNet"}, ("gives unet as UNet", "a library and a class")),
    ],
)
def test_sizes_come_from_the_configurations_or_are_refused(
    fresh: Callable[[str], Path],
    kind: str,
    file: str,
    changes: dict[str, Any],
    said: tuple[str, ...],
) -> None:
    folder = fresh(kind)
    edit(folder / file, **changes)
    message = refusals(folder)
    assert all(part in message for part in said)


@pytest.mark.parametrize(
    ("file", "size"), [(UNET, [16, 16]), (VAE, [64, 64]), (VAE, [48, 64]), (VAE, [512, 512])]
)
def test_sizes_in_lists_are_read(fresh: Callable[[str], Path], file: str, size: object) -> None:
    folder = fresh("sd2")
    edit(folder / file, sample_size=size)
    for call in CALLS:
        parts = call(folder)
        assert isinstance(parts, Components)
        assert parts.latent_shape == (4, 16, 16)
        assert parts.denoiser.config.sample_size == 16
        assert parts.vae.config.sample_size == (256 if file == UNET else 64)


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "PNDMScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "LCMScheduler",
        "TCDScheduler",
    ],
)
@pytest.mark.parametrize("named_in", [INDEX, SCHEDULER])
def test_what_a_scheduler_does_not_say_is_its_own_classes_default(
    fresh: Callable[[str], Path], name: str, named_in: str
) -> None:
    folder = fresh("sd2")
    said = {"_class_name": name} if named_in == SCHEDULER else {}
    (folder / SCHEDULER).write_text(json.dumps(said))
    edit(folder / INDEX, scheduler=["diffusers", name])
    own = getattr(diffusers, name)()
    for call in CALLS:
        parts = call(folder)
        assert isinstance(parts, Components)
        ours = parts.sampler(4).scheduler
        assert torch.equal(ours.alphas_cumprod, own.alphas_cumprod)
        assert ours.config.prediction_type == own.config.prediction_type
        assert ours.config.steps_offset == own.config.get("steps_offset", 0)


def test_a_scheduler_of_no_class_is_not_filled_up(fresh: Callable[[str], Path]) -> None:
    folder = fresh("sd2")
    (folder / SCHEDULER).write_text(json.dumps({"beta_end": 0.012}))
    assert "says no beta_start" in refusals(folder)


def test_integers_as_weights_are_named_as_quantised(fresh: Callable[[str], Path]) -> None:
    folder = fresh("sd2")
    (file,) = (folder / "unet").glob("*.safetensors")
    name = "mid_block.attentions.0.proj_in.weight"
    tensors = load_file(file)
    save_file(tensors | {name: tensors[name].to(torch.int8)}, file, metadata={"format": "pt"})
    message = refusals(folder)
    assert f"is not supported: it has quantised weights in its unet ({name})" in message
    assert "again" not in message


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (UNET, "layers_per_block", 257),
        (UNET, "layers_per_block", [1, 1, 10**29, 1]),
        (UNET, "norm_num_groups", 10**29),
        (UNET, "block_out_channels", [16] * 65),
        (VAE, "layers_per_block", 10**6),
        (TEXT, "num_hidden_layers", 10**29),
        (TEXT, "intermediate_size", (1 << 24) + 1),
        (SCHEDULER, "num_train_timesteps", -(10**13)),
    ],
)
def test_sizes_that_would_take_hours_are_refused(
    fresh: Callable[[str], Path], file: str, key: str, value: object
) -> None:
    folder = fresh("sd2")
    edit(folder / file, **{key: value})
    message = refusals(folder)
    assert f"{folder / file}: {key} " in message
    assert "expected; correct it" in message


def test_brackets_without_end_are_refused(fresh: Callable[[str], Path]) -> None:
    folder = fresh("sd2")
    (folder / UNET).write_text("[" * 100_000)
    assert f"cannot read {folder / UNET}" in refusals(folder)
