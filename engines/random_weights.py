"""A model's architecture with seeded random weights, to measure speed and memory only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines.components import Components
from engines.errors import EngineError
from engines.models.sd_v1 import MODEL as SD_V1
from engines.models.sd_v1 import WORDS, untrained
from engines.models.tiny.architecture import SCHEDULE
from engines.models.tiny.words import load_tokenizer

SEED = 0


def random_unet(source: str | Path) -> UNet2DConditionModel:
    """The UNet. Raises EngineError for a hub id of unknown architecture."""
    torch.manual_seed(SEED)
    if Path(source).is_dir():
        return _frozen(UNet2DConditionModel.from_config(_json(Path(source) / "unet")))
    _refuse_unknown(source)
    return untrained()


def random_components(source: str | Path, words: Path) -> Components:
    """All components, with the tokenizer of ``source`` if it is a folder, else that in ``words``.

    Drawing weights changes the state of torch's global generator.
    """
    unet = random_unet(source)
    if Path(source).is_dir():
        folder = Path(source)
        vae = AutoencoderKL.from_config(_json(folder / "vae"))
        text = CLIPTextModel(CLIPTextConfig(**_json(folder / "text_encoder")))
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        schedule = _json(folder / "scheduler")
        if (folder / "text_encoder_2").is_dir():
            second = CLIPTextModelWithProjection(CLIPTextConfig(**_json(folder / "text_encoder_2")))
            return Components(
                unet,
                _frozen(vae),
                _frozen(text),
                tokenizer,
                schedule,
                _frozen(second),
                CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
                zeros_if_empty=True,
            )
    else:
        # vae/config.json and text_encoder/config.json of the same model: CLIP's ViT-L/14 encoder.
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
            )
        )
        tokenizer, schedule = load_tokenizer(words), SCHEDULE
        tokenizer.model_max_length = WORDS
    return Components(unet, _frozen(vae), _frozen(text), tokenizer, schedule)


def _refuse_unknown(source: str | Path) -> None:
    if source != SD_V1.source:
        raise EngineError(
            f"the architecture of {source} is not known without its files; "
            "give its local folder with --model, or one of the models tiny and sd_v1"
        )


def _json(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob("*config.json"))
    try:
        config: dict[str, Any] = json.loads(files[0].read_text(encoding="utf-8"))
    except (OSError, ValueError, IndexError) as error:
        raise EngineError(
            f"{folder} holds no readable config.json; give a diffusers folder with --model"
        ) from error
    return config


def _frozen(module: Any) -> Any:
    return module.requires_grad_(False).eval()
