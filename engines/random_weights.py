"""A model's architecture with seeded random weights, to measure speed and memory only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from engines.components import Components
from engines.configurations import Configuration, text_configuration
from engines.errors import EngineError
from engines.families.unet import FAMILY as UNET
from engines.family import Family
from engines.library_logs import silenced
from engines.load import assembled, network_class, require_working, supported
from engines.models.sd_v1 import MODEL as SD_V1
from engines.models.sd_v1 import WORDS, untrained
from engines.models.tiny.architecture import SCHEDULE
from engines.models.tiny.words import load_tokenizer
from engines.validate import advice, quoted

SEED = 0


def random_components(source: str | Path, words: Path) -> Components:
    """All components, with the tokenizer of ``source`` if it is a folder, else that in ``words``.

    Drawing weights changes the state of torch's global generator. Raises EngineError as ``load``
    does.
    """
    torch.manual_seed(SEED)
    if Path(source).is_dir():
        folder = Path(source)
        components = _drawn(folder, *supported(folder))
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
    parts = {
        "unet": unet,
        "vae": _frozen(vae),
        "text_encoder": _frozen(text),
        "tokenizer": tokenizer,
    }
    side = int(unet.config.sample_size)
    return Components(UNET, parts, dict(schedule), (4, side, side), sampler_name=UNET.samplers[0])


def _refuse_unknown(source: str | Path) -> None:
    if source != SD_V1.source:
        raise EngineError(
            f"the architecture of {source} is not known without its files; "
            "give its local folder with --model, or one of the models tiny and sd_v1"
        )


def _drawn(folder: Path, family: Family, found: dict[str, Configuration]) -> Components:
    with _explained(folder):
        networks = {
            part: _frozen(_network(folder, family, part, config))
            for part, config in found.items()
            if part != "scheduler"
        }
        return assembled(folder, family, found, networks)


def _network(folder: Path, family: Family, part: str, config: Configuration) -> Any:
    kind = network_class(family, part)
    if issubclass(kind, diffusers.ModelMixin):
        return kind.from_config(config)
    if kind.config_class is CLIPTextConfig:
        return kind(text_configuration(folder, part))
    return kind(kind.config_class.from_pretrained(folder / part))


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
