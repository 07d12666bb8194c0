"""Words of several vectors, from textual inversion, against diffusers' pipelines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engines.components import Components
from engines.load import load

ADDED = ("<toy>", "<toy>_1", "<toy>_2", "<one>", "<pair>", "<pair>_1")
PROMPTS = [
    "a <toy> on a sand floor",
    "<toy> and <pair> and <toy>",
    "a <one> on a sand floor",
    "a red sphere",
    "",
    "a <toy> " * 12,
]


def taught(folder: Path, kind: str) -> Path:
    """Add the words to every tokenizer and their vectors to its encoder."""
    for part in ("", "_2") if kind == "sdxl" else ("",):
        words = CLIPTokenizer.from_pretrained(folder / f"tokenizer{part}")
        words.add_tokens(list(ADDED))
        words.save_pretrained(folder / f"tokenizer{part}")
        encoder_kind = CLIPTextModelWithProjection if part else CLIPTextModel
        encoder = encoder_kind.from_pretrained(folder / f"text_encoder{part}")
        encoder.resize_token_embeddings(len(words), mean_resizing=False)
        vectors = encoder.get_input_embeddings().weight
        with torch.no_grad():
            vectors[-len(ADDED) :].normal_(generator=torch.Generator().manual_seed(1))
        encoder.save_pretrained(folder / f"text_encoder{part}")
    return folder


def texts_of_diffusers(parts: Components, prompts: list[str]) -> torch.Tensor:
    shared = {
        "vae": parts.vae,
        "text_encoder": parts.parts["text_encoder"],
        "tokenizer": parts.parts["tokenizer"],
        "unet": parts.denoiser.module,
        "scheduler": parts.sampler(2).scheduler,
        "feature_extractor": None,
    }
    if "text_encoder_2" not in parts.parts:
        pipeline = StableDiffusionPipeline(
            **shared, safety_checker=None, requires_safety_checker=False
        )
    else:
        pipeline = StableDiffusionXLPipeline(
            **shared,
            text_encoder_2=parts.parts["text_encoder_2"],
            tokenizer_2=parts.parts["tokenizer_2"],
            add_watermarker=False,
        )
    with torch.inference_mode():
        encoded: torch.Tensor = pipeline.encode_prompt(
            prompts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0]
    return encoded


@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_a_word_of_several_vectors_is_all_of_them(
    kind: str, small_models: dict[str, Path], tmp_path: Path
) -> None:
    parts = load(taught(Path(shutil.copytree(small_models[kind], tmp_path / kind)), kind))
    prompts = [prompt for prompt in PROMPTS if prompt or kind == "sd2"]
    ours, theirs = parts.embed(prompts)["text"], texts_of_diffusers(parts, prompts)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    other = ["a red sphere", PROMPTS[0]]
    before = parts.embed(other)["text"]
    with torch.no_grad():
        vectors = parts.parts["text_encoder"].get_input_embeddings().weight
        vectors[parts.parts["tokenizer"].convert_tokens_to_ids("<toy>_2")] += 1.0
    after = parts.embed(other)["text"]
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True, False]


def test_prompts_without_such_words_are_left_alone(components: Components) -> None:
    assert "<toy>" not in components.parts["tokenizer"].added_tokens_encoder
    torch.testing.assert_close(
        components.embed(["a red sphere", "a cat"])["text"],
        texts_of_diffusers(components, ["a red sphere", "a cat"]),
        rtol=1e-5,
        atol=1e-5,
    )
