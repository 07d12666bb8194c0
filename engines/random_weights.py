"""A model's architecture with seeded random weights, to measure speed and memory only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines.components import Components
from engines.configurations import Configuration, text_configuration
from engines.errors import EngineError
from engines.kinds import supported_configurations
from engines.load import require_working, with_sizes
from engines.models.sd_v1 import MODEL as SD_V1
from engines.models.sd_v1 import WORDS, untrained
from engines.models.tiny.architecture import SCHEDULE
from engines.models.tiny.words import load_tokenizer
from engines.validate import advice, quoted, silenced

SEED = 0


def random_unet(source: str | Path) -> UNet2DConditionModel:
    """The UNet. Raises EngineError for a hub id of unknown architecture, or as ``load`` does."""
    torch.manual_seed(SEED)
    if Path(source).is_dir():
        return _unet(Path(source), supported_configurations(Path(source)))
    _refuse_unknown(source)
    return untrained()


def random_components(source: str | Path, words: Path) -> Components:
    """All components, with the tokenizer of ``source`` if it is a folder, else that in ``words``.

    Drawing weights changes the state of torch's global generator. Raises EngineError as ``load``
    does.
    """
    if Path(source).is_dir():
        folder = Path(source)
        found = supported_configurations(folder)
        torch.manual_seed(SEED)
        components = _drawn(folder, found)
        require_working(components, folder)
        return components
    torch.manual_seed(SEED)
    _refuse_unknown(source)
    unet = untrained()
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


def _unet(folder: Path, found: dict[str, Configuration]) -> UNet2DConditionModel:
    with _explained(folder):
        return _frozen(UNet2DConditionModel.from_config(found["unet"]))


def _drawn(folder: Path, found: dict[str, Configuration]) -> Components:
    unet = _unet(folder, found)
    with _explained(folder):
        vae = AutoencoderKL.from_config(found["vae"])
        text = CLIPTextModel(text_configuration(folder, "text_encoder"))
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        second, second_words = None, None
        if "text_encoder_2" in found:
            second = _frozen(
                CLIPTextModelWithProjection(text_configuration(folder, "text_encoder_2"))
            )
            second_words = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        drawn = Components(
            unet,
            _frozen(vae),
            _frozen(text),
            tokenizer,
            found["scheduler"],
            second,
            second_words,
            zeros_if_empty=second is not None,
        )
        return with_sizes(drawn, found)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raise EngineError for whatever the libraries raise for a configuration."""
    try:
        with silenced():
            yield
    except Exception as error:
        raise EngineError(
            f"cannot draw the model in {folder}: {quoted(error)}; {advice(error)}"
        ) from error


def _frozen(module: Any) -> Any:
    return module.requires_grad_(False).eval()
