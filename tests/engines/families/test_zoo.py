"""The trained models of other families: they load, and sample as diffusers' pipelines do."""

from __future__ import annotations

import pytest
import torch

from engines.load import load
from tests.engines.families.reference import generate, pipeline_of, relative, run
from tests.small_transformers import ZOO

FAMILIES = {
    "mmdit-flow-0": "Stable Diffusion 3 or 3.5",
    "dit-noise-0": "PixArt alpha or sigma",
    "unet-flow-0": "Stable Diffusion 1 or 2, or SDXL's base",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_of_the_zoo_samples_as_its_pipeline(name: str) -> None:
    parts, pipeline = load(ZOO / name), pipeline_of(ZOO / name)
    assert parts.family.title == FAMILIES[name]
    assert parts.sampler_name == "model"
    expected = generate(pipeline, parts, 3, 3.0)
    steps = run(parts, parts.taps(), 3, 3.0)
    for step, latents in zip(steps, expected.latents, strict=True):
        assert relative(step.latents, latents) <= 1e-4
    images = parts.decode(steps[-1].latents)
    assert torch.allclose(images, expected.images, rtol=0, atol=1e-4)
    # The prompts give two images, and a trained network none of one colour.
    assert float(images.std(dim=(2, 3)).min()) > 1e-2
    assert relative(images[:1], images[1:]) > 0.1
