"""What the denoiser reads of prompts: what diffusers' pipeline passes, whatever the batch."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.backends.torch_eager import TorchEager
from engines.conditioning import Conditioning
from engines.engine import Prediction
from extract.trajectory import denoise, initial_noise
from tests.engines.families.conftest import Models
from tests.engines.families.reference import (
    EMBEDDED,
    PROMPTS,
    SEEDS,
    TRANSFORMERS,
    UNETS,
    generate,
    is_flux,
    run,
)

KINDS = [*TRANSFORMERS, *UNETS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_the_other_prompts(models: Models, kind: str) -> None:
    parts = models(kind).parts
    prompts = [*PROMPTS, "", "a blue cube with a wall behind it and light from the left", "red"]
    together = parts.embed(prompts)
    assert together.rows == len(prompts)
    for number, prompt in enumerate(prompts):
        assert parts.embed([prompt]) == together[number : number + 1]
    assert parts.embed(prompts[::-1])[torch.arange(4, -1, -1)] == together
    shapes = parts.denoiser.inputs
    assert together.tensors.keys() == shapes.keys()
    for name, shape in shapes.items():
        sizes = together[name].shape[1:]
        assert [size for size in shape if size != "words"] == [
            size for size, stated in zip(sizes, shape, strict=True) if stated != "words"
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_adds_a_row_of_the_empty_prompt_for_every_row(models: Models, kind: str) -> None:
    parts = models(kind).parts
    engine = TorchEager(parts.denoiser, ())
    read: list[tuple[Tensor, Conditioning]] = []

    def predict(latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        read.append((latents, conditioning))
        return engine(latents, timestep, conditioning)

    noise = initial_noise(SEEDS, parts.latent_shape)
    text, empty = parts.embed(PROMPTS), parts.embed([""])
    step = next(denoise(predict, parts.sampler(4), noise, text, empty, 3.0))
    ((latents, both),) = read
    assert both[:2] == empty.expand(2)
    assert both[2:] == text
    assert torch.equal(latents[:2], latents[2:])
    assert step.unconditional is not None
    alone = engine(latents[:2], step.timestep, empty.expand(2)).noise
    assert torch.allclose(step.unconditional.noise, alone, rtol=0, atol=1e-5)
    # The prompt matters.
    assert float((step.unconditional.noise - step.prediction.noise).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_the_denoiser_reads_what_the_pipeline_passes(models: Models, kind: str) -> None:
    model = models(kind)
    passed = generate(model.pipeline, model.parts, 2, 3.0).calls
    step = run(model.parts, (), 2, 3.0)[0]
    text, empty = step.conditioning, model.parts.embed([""]).expand(2)
    if is_flux(model.pipeline):
        rows = [(passed[0][""], text), (passed[1][""], empty)]
    else:
        rows = [(passed[0][""], Conditioning.joined([empty, text]))]
    for call, conditioning in rows:
        assert torch.allclose(call["encoder_hidden_states"], conditioning["text"], atol=1e-6)
        for name, given in named(call).items():
            # Batches of other sizes may round differently.
            assert torch.allclose(given.float(), conditioning[name], atol=1e-6), name
        assert float(call["timestep"].flatten()[0]) == pytest.approx(time_of(kind, step.timestep))
    if kind == "flux-dev":
        assert text["guidance"].tolist() == [EMBEDDED, EMBEDDED]


def named(call: dict[str, Any]) -> dict[str, Tensor]:
    """The pipeline's arguments by this project's names, without the words."""
    names = {
        "pooled": call.get("pooled_projections"),
        "guidance": call.get("guidance"),
        "mask": call.get("encoder_attention_mask"),
        **(call.get("added_cond_kwargs") or {}),
    }
    return {name: value for name, value in names.items() if value is not None}


def time_of(kind: str, timestep: float) -> float:
    return timestep / 1000 if kind.startswith("flux") else timestep


@pytest.mark.parametrize("kind", ["pixart-alpha", "pixart-sigma"])
@pytest.mark.parametrize("is_installed", [True, False])
def test_prompts_are_read_alike_whether_or_not_captions_could_be_cleaned(
    models: Models, kind: str, is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = " A <b>red</b> sphere &amp; file.jpg  on a sand-floor 1234567 "
    model = models(kind)
    pipeline = model.parts.pipeline()
    module = sys.modules[type(pipeline).__module__]
    for package in ("bs4", "ftfy"):
        monkeypatch.setattr(module, f"is_{package}_available", lambda: is_installed)
    cleaned: list[str] = []
    monkeypatch.setattr(
        type(pipeline), "_clean_caption", lambda _, text: cleaned.append(text) or "cleaned"
    )
    embedded = model.parts.embed([prompt])
    assert not cleaned
    words, mask, _, _ = pipeline.encode_prompt(
        [prompt], do_classifier_free_guidance=False, clean_caption=False
    )
    assert torch.equal(embedded["mask"], mask.float())
    assert torch.allclose(embedded["text"], words, rtol=1e-5, atol=1e-6)
    # diffusers' default depends on what is installed.
    pipeline.encode_prompt([prompt], do_classifier_free_guidance=False, clean_caption=True)
    assert bool(cleaned) is is_installed
