"""What is not supported, or not whole, is refused by one sentence before weights are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.errors import EngineError
from engines.load import load, supported
from tests.engines.families.conftest import Models
from tests.engines.families.reference import TRANSFORMERS

INDEX, DENOISER, VAE = "model_index.json", "transformer/config.json", "vae/config.json"
TEXT, SCHEDULER = "text_encoder/config.json", "scheduler/scheduler_config.json"
TITLES = {
    "sd3": "Stable Diffusion 3 or 3.5",
    "flux-dev": "FLUX.1",
    "pixart-alpha": "PixArt alpha or sigma",
    "sana": "Sana",
}
WAN = "WanTransformer3DModel"


@pytest.fixture
def fresh(models: Models, tmp_path: Path) -> Callable[[str], Path]:
    """Copies a model."""
    return lambda kind: Path(shutil.copytree(models(kind).folder, tmp_path / kind))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(folder: Path, call: Callable[[Path], Any] = supported) -> str:
    with pytest.raises(EngineError) as caught:
        call(folder)
    message = str(caught.value)
    assert "\n" not in message
    # The temporary folder's name may be long, and is no part of the sentence.
    assert len(message.replace(str(folder), "")) < 500
    return message


UNSUPPORTED: list[tuple[str, str, dict[str, Any], str]] = [
    (kind, file, changes, named)
    for kind in TITLES
    for file, changes, named in (
        (INDEX, {"transformer": ["diffusers", WAN]}, f"has {WAN} as its transformer"),
        (DENOISER, {"_class_name": WAN}, f"has {WAN} as its transformer"),
        (INDEX, {"vae": ["diffusers", "AutoencoderTiny"]}, "has AutoencoderTiny as its vae"),
        (INDEX, {"text_encoder": ["transformers", "LlamaModel"]}, "has LlamaModel as its text_e"),
        (INDEX, {"tokenizer": ["transformers", "BertTokenizer"]}, "BertTokenizer as its token"),
        (INDEX, {"controlnet": ["diffusers", "OurControlNet"]}, "has a controlnet (OurControlNet)"),
        (DENOISER, {"quantization_config": {"load_in_4bit": True}}, "quantised weights in its tr"),
        (TEXT, {"quantization_config": {"load_in_8bit": True}}, "quantised weights in its text_"),
        (VAE, {"latent_channels": 6}, "takes 4 channels where its autoencoder has 6"),
    )
] + [
    ("flux-dev", INDEX, {"_class_name": "FluxKontextPipeline"}, "is made for FluxKontextPipeline"),
    ("flux-dev", INDEX, {"_class_name": "FluxFillPipeline"}, "is made for FluxFillPipeline"),
    ("flux-dev", DENOISER, {"in_channels": 32, "out_channels": 16}, "takes 8 channels where its"),
    ("sd3", DENOISER, {"out_channels": 3}, "gives 3 channels where it takes 4"),
    ("sd3", INDEX, {"_class_name": "StableDiffusion3ControlNetPipeline"}, "is made for StableDif"),
    ("pixart-alpha", INDEX, {"_class_name": "PixArtSigmaPAGPipeline"}, "is made for PixArtSigmaP"),
    ("sana", INDEX, {"_class_name": "SanaSprintPipeline"}, "is made for SanaSprintPipeline"),
    ("sana", DENOISER, {"guidance_embeds": True}, "as Sana Sprint does"),
]


@pytest.mark.parametrize(("kind", "file", "changes", "named"), UNSUPPORTED)
def test_what_is_not_supported_is_named_with_its_family(
    fresh: Callable[[str], Path], kind: str, file: str, changes: dict[str, Any], named: str
) -> None:
    folder = fresh(kind)
    edit(folder / file, **changes)
    message = refusal(folder)
    assert f"the model in {folder} is not supported: it " in message
    assert named in message
    assert f"supported is {TITLES[kind]} that generates from text and noise alone" in message


@pytest.mark.parametrize("kind", TITLES)
def test_what_is_missing_is_named(fresh: Callable[[str], Path], kind: str) -> None:
    folder = fresh(kind)
    index = (folder / INDEX).read_text()
    for part in ("transformer", "vae", "text_encoder", "tokenizer"):
        edit(folder / INDEX, **{part: [None, None]})
        assert f"it has no {part}; supported is {TITLES[kind]}" in refusal(folder)
        (folder / INDEX).write_text(index)
        (folder / part).rename(folder / "away")
        assert f"its folder {part}/ is missing" in refusal(folder)
        (folder / "away").rename(folder / part)
    (folder / DENOISER).unlink()
    assert f"cannot read {folder / DENOISER}" in refusal(folder)


@pytest.mark.parametrize("kind", TITLES)
@pytest.mark.parametrize("value", [0, -4, "many", 2.5, None])
def test_channels_that_are_no_number_are_refused(
    fresh: Callable[[str], Path], kind: str, value: object
) -> None:
    folder = fresh(kind)
    edit(folder / DENOISER, in_channels=value)
    message = refusal(folder)
    assert f"{folder / DENOISER}: in_channels is {value}, where a whole number" in message


@pytest.mark.parametrize("kind", ["sd3", "pixart-alpha", "sana"])
def test_a_size_that_is_not_known_is_refused(fresh: Callable[[str], Path], kind: str) -> None:
    folder = fresh(kind)
    edit(folder / DENOISER, sample_size=None)
    assert "sample_size is None, where a whole number" in refusal(folder)


@pytest.mark.parametrize("kind", ["sd3", "flux-schnell"])
def test_a_second_encoder_that_is_missing_is_named(fresh: Callable[[str], Path], kind: str) -> None:
    folder = fresh(kind)
    edit(folder / INDEX, text_encoder_2=[None, None])
    assert "it has no text_encoder_2; supported is " in refusal(folder)


def test_sd3_may_lack_its_third_encoder(models: Models) -> None:
    folder = models("sd35").folder
    family, found = supported(folder)
    assert family.title == TITLES["sd3"]
    assert "text_encoder_3" not in found


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_damaged_weights_are_refused(fresh: Callable[[str], Path], kind: str) -> None:
    folder = fresh(kind)
    (file,) = (folder / "transformer").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-64])
    assert f"cannot load the model in {folder}: " in refusal(folder, load)


def test_an_unknown_pipeline_is_answered_with_the_families(fresh: Callable[[str], Path]) -> None:
    folder = fresh("sd3")
    edit(folder / INDEX, _class_name="WanPipeline", transformer=["diffusers", WAN])
    message = refusal(folder)
    assert "it is made for WanPipeline; supported are " in message
    for title in (*TITLES.values(), "Stable Diffusion 1 or 2, or SDXL's base"):
        assert title in message


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_sides_that_are_no_multiple_of_a_patch_are_refused(models: Models, kind: str) -> None:
    parts = models(kind).parts
    patch = parts.family.patch(parts.denoiser.config)
    multiple = parts.pixels_per_latent * patch
    parts.sized(multiple * 3, multiple * 2)
    for height, width, named in (
        (multiple * 3 + 1, multiple, "height"),
        (multiple, multiple + parts.pixels_per_latent // 2, "width"),
        (0, multiple, "height"),
        (multiple, -multiple, "width"),
    ):
        with pytest.raises(EngineError, match=rf"multiples of {multiple} pixels, and the {named}"):
            parts.sized(height, width)
