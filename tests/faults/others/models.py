"""Models that do not fit, are not supported, are damaged, or are stored in unusual ways."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.faults.others.case import Case, Kit, edit
from tests.faults.others.small import (
    INDEX,
    SCHEDULER,
    TEXT,
    UNET,
    VAE,
    WEIGHTS,
    content,
    copy,
    keys,
    part,
    text,
    unet,
    vae,
    weights,
    without,
)

RUN = "RUN --labeler tiny --model {folder}/m"
RANDOM = f"{RUN} --weights random"
PLAN = "plan --limit 12 --guidance 3 --engine torch_eager --labeler tiny --model {folder}/m"
HUGE = 10**29


def _pointer(kit: Kit, folder: Path) -> None:
    """A clone without Git LFS: pointers in place of the weights."""
    (copy(kit, folder) / WEIGHTS).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 3438167540\n"
    )


def _pickled(kit: Kit, folder: Path) -> None:
    import torch

    path = copy(kit, folder) / WEIGHTS
    torch.save({"a": torch.zeros(2)}, path.with_suffix(".bin"))
    path.unlink()


def _sharded(kit: Kit, folder: Path) -> None:
    model = copy(kit, folder)
    shutil.rmtree(model / "unet")
    unet().save_pretrained(model / "unet", max_shard_size="100KB")
    min((model / "unet").glob("*-00002-of-*.safetensors")).unlink()


def _halves(kit: Kit, folder: Path) -> None:
    """Plain weights of the text encoder, half precision of the others."""
    model = copy(kit, folder)
    for name, network in (("unet", unet()), ("vae", vae())):
        shutil.rmtree(model / name)
        network.half().save_pretrained(model / name, variant="fp16")


def _adapter(kit: Kit, folder: Path) -> None:
    """What training an adapter leaves behind, in place of a model."""
    (folder / "m").mkdir()
    (folder / "m" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "m" / "pytorch_lora_weights.safetensors").write_bytes(b"x")


def _one_file(kit: Kit, folder: Path) -> None:
    shutil.copy(kit.base / WEIGHTS, folder / "m")


def _xl(kit: Kit, folder: Path) -> None:
    """SDXL's UNet beside one text encoder."""
    edit(
        copy(kit, folder) / UNET,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )


def _half_overflow(tensors: dict[str, Any]) -> dict[str, Any]:
    """Weights beyond the range of half precision."""
    import torch

    name = "conv_in.weight"
    return tensors | {name: torch.full_like(tensors[name], 1e6).half()}


def _eight_bits(tensors: dict[str, Any]) -> dict[str, Any]:
    """Weights of a quantised network, with scales beside them."""
    import torch

    quantised: dict[str, Any] = {}
    for name, value in tensors.items():
        if name.endswith("to_q.weight"):
            quantised[name] = (value * 100).to(torch.int8)
            quantised[f"{name}.absmax"] = torch.ones(4)
        else:
            quantised[name] = value
    return quantised


def _class(name: str) -> Any:
    return keys(INDEX, **{"_class_name": name})


MODELS: tuple[Case, ...] = (
    # Parts that do not fit.
    Case("text of another width", part("text_encoder", lambda: text(32)), RUN, "width 32"),
    Case("the same, planned", part("text_encoder", lambda: text(32)), PLAN, "width 32"),
    Case(
        "the same, dataset make",
        part("text_encoder", lambda: text(32)),
        "dataset make --limit 4 --labeler tiny --guidance 3 --engine torch_eager "
        "--model {folder}/m --out {out}",
        "width 32",
    ),
    Case(
        "the same, profile",
        part("text_encoder", lambda: text(32)),
        "profile --engines torch_eager --items 2 --rounds 2 --model {folder}/m",
        "width 32",
    ),
    Case(
        "a tokenizer of more words than positions",
        keys("tokenizer/tokenizer_config.json", model_max_length=77),
        RUN,
        "where 24 are read",
    ),
    Case(
        "a vocabulary beyond the encoder's",
        part("text_encoder", lambda: text(vocab_size=40)),
        RUN,
        "where its text encoder knows 40",
    ),
    Case("latents of eight channels", part("vae", lambda: vae(latent_channels=8)), RUN, "has 8"),
    Case(
        "a UNet that also predicts variances",
        part("unet", lambda: unet(out_channels=8)),
        RUN,
        "gives 8 channels",
    ),
    Case("SDXL's UNet with one text encoder", _xl, RUN, "is not supported"),
    Case("the same with random weights", _xl, RANDOM, "is not supported"),
    Case(
        "another UNet's weights", keys(UNET, block_out_channels=[16, 32, 64]), RUN, "size mismatch"
    ),
    Case("another encoder's weights", keys(TEXT, hidden_size=32), RUN, "32"),
    # Kinds that are not supported.
    *(
        Case(f"{file}: {name}", keys(file, **{"_class_name": name}), command, name)
        for file, name, command in (
            (VAE, "VQModel", RUN),
            (VAE, "AutoencoderTiny", PLAN),
            (VAE, "AutoencoderKLTemporalDecoder", RANDOM),
            (UNET, "UNet3DConditionModel", RUN),
            (UNET, "Kandinsky3UNet", PLAN),
            (UNET, "UNet2DModel", RANDOM),
        )
    ),
    *(
        Case(f"pipeline: {name}", _class(name), command, name)
        for name, command in (
            ("KandinskyV22Pipeline", RUN),
            ("AudioLDM2Pipeline", PLAN),
            ("LDMSuperResolutionPipeline", RANDOM),
        )
    ),
    Case(
        "a text encoder of another library's kind",
        keys(TEXT, architectures=["BertModel"]),
        RUN,
        "BertModel",
    ),
    Case(
        "a scheduler of flows",
        keys(SCHEDULER, _class_name="FlowMatchLCMScheduler"),
        PLAN,
        "FlowMatchLCM",
    ),
    Case(
        "a scheduler that is not known and says nothing",
        lambda kit, folder: (copy(kit, folder) / SCHEDULER).write_text('{"_class_name": "Ours"}'),
        RUN,
        "Ours",
    ),
    Case(
        "a scheduler whose class gives the rest",
        lambda kit, folder: (copy(kit, folder) / SCHEDULER).write_text(
            '{"_class_name": "DDIMScheduler"}'
        ),
        RUN,
        "full tables",
        0,
    ),
    Case(
        "betas that were trained",
        keys(SCHEDULER, trained_betas=[0.001 + i * 1e-5 for i in range(1000)]),
        RUN,
        "full tables",
        0,
    ),
    Case(
        "quantised by configuration",
        keys(UNET, quantization_config={"load_in_8bit": True}),
        RUN,
        "quantised",
    ),
    Case("quantised weights", weights(_eight_bits), RUN, "quantised"),
    Case("an adapter alone", _adapter, RUN, "model_index.json"),
    Case(
        "an adapter in the text encoder",
        weights(
            lambda t: t | {"q_proj.lora_B.default.weight": t[min(t)].clone()},
            "text_encoder/model.safetensors",
        ),
        RUN,
        "LoRA",
    ),
    # Files.
    Case("no index", without(INDEX), RUN, "has no model_index.json"),
    Case("no autoencoder", without("vae"), RUN, "vae/ is missing"),
    Case("no tokenizer, random weights", without("tokenizer"), RANDOM, "tokenizer"),
    Case("no scheduler, planned", without("scheduler"), PLAN, "scheduler/ is missing"),
    Case("no configuration", without(UNET), RUN, "unet/config.json"),
    Case("one file of weights", _one_file, RUN, "neither a diffusers model folder"),
    Case("pointers of Git LFS", _pointer, RUN, "cannot load the model"),
    Case("pickled weights", _pickled, RUN, "save the model as safetensors"),
    Case("a shard that is missing", _sharded, RUN, "00002-of-"),
    Case("truncated weights", content(WEIGHTS, lambda b: b[: len(b) // 2]), RUN, "cannot load"),
    Case(
        "a header of exabytes", content(WEIGHTS, lambda b: b"\xff" * 8 + b[8:]), RUN, "cannot load"
    ),
    Case(
        "weights of NaN", weights(lambda t: {n: v * float("nan") for n, v in t.items()}), RUN, "NaN"
    ),
    Case("infinite half precision", weights(_half_overflow), RUN, "NaN or infinite weights"),
    Case("half precision alone, mixed", _halves, RUN, "full tables", 0),
    Case(
        "an index in UTF-16",
        content(INDEX, lambda b: b.decode().encode("utf-16")),
        RUN,
        "model_index.json",
    ),
    Case("brackets without end", content(UNET, lambda b: b"[" * 200_000), RUN, "unet/config.json"),
    # Sizes.
    *(
        Case(f"{file}: {key} of {str(value)[:12]}", keys(file, **{key: value}), command, key)
        for file, key, value, command in (
            (TEXT, "num_hidden_layers", HUGE, RUN),
            (TEXT, "num_hidden_layers", HUGE, RANDOM),
            (TEXT, "num_hidden_layers", 10**6, RUN),
            (TEXT, "intermediate_size", HUGE, RUN),
            (TEXT, "max_position_embeddings", 0, RUN),
            (UNET, "layers_per_block", HUGE, RUN),
            (UNET, "layers_per_block", 10**5, RANDOM),
            (UNET, "block_out_channels", [16, 32, 10**9], RANDOM),
            (UNET, "transformer_layers_per_block", HUGE, PLAN),
            (UNET, "sample_size", 10**6, RUN),
            (VAE, "layers_per_block", 10**7, RUN),
            (VAE, "block_out_channels", [16] * 5000, RANDOM),
            (SCHEDULER, "num_train_timesteps", 10**13, RUN),
        )
    ),
)
