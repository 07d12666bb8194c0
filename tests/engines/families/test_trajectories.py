"""Latents after every step and decoded images, against diffusers' own pipelines."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.family import families
from tests.engines.families.conftest import Models
from tests.engines.families.reference import (
    TRANSFORMERS,
    UNETS,
    generate,
    pipeline_of,
    relative,
    run,
    with_scheduler,
)

STEPS = 4
FLOWS = ("sd3", "sd35", "flux-dev", "sana")
OTHERS = [(kind, name) for kind in FLOWS for name in ("dpm", "unipc", "flow-euler")]
# diffusers' pipeline of schnell passes other schedulers a shift that they refuse.
OTHERS += [("flux-schnell", "flow-euler")]
OTHERS += [("pixart-alpha", name) for name in ("dpm", "ddim", "euler", "lms")]
OTHERS += [("pixart-sigma", "unipc")]
OTHERS += [(kind, name) for kind in UNETS for name in ("euler", "ddim", "dpm", "unipc", "model")]
DEFAULT = [("sd3", "dpm"), ("flux-dev", "unipc"), ("pixart-alpha", "ddim"), ("pixart-alpha", "lms")]
DEFAULT += [("sd2", "ddim"), ("sd2", "model"), ("sdxl", "model"), ("sdxl", "unipc")]


def test_every_family_is_among_the_compared_models(models: Models) -> None:
    compared = {models(kind).parts.family for kind in (*TRANSFORMERS, *UNETS)}
    missing = [name for name, family in families() if family not in compared]
    assert missing == [], "add a random model to tests/small_transformers.py"


@pytest.mark.parametrize("guidance", [None, pytest.param(1.0, marks=pytest.mark.slow), 4.0])
@pytest.mark.parametrize("kind", [*TRANSFORMERS, *UNETS])
def test_latents_and_images_are_those_of_diffusers(
    models: Models, kind: str, guidance: float | None
) -> None:
    model = models(kind)
    if kind in UNETS:
        model = replace(model, pipeline=pipeline_of(model.folder))
        with_scheduler(model.pipeline, "lms")
    expected = generate(model.pipeline, model.parts, STEPS, guidance)
    actual = run(model.parts, (), STEPS, guidance)
    assert len(actual) == len(expected.latents) == STEPS
    for step, latents in zip(actual, expected.latents, strict=True):
        assert relative(step.latents, latents) <= 1e-4
    images = model.parts.decode(actual[-1].latents)
    assert images.shape == expected.images.shape
    assert torch.allclose(images, expected.images, rtol=0, atol=1e-4)
    # The prompts matter far more than the tolerance.
    assert relative(expected.latents[-1][:1], expected.latents[-1][1:]) > 0.1


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [pytest.param(*case, marks=[] if case in DEFAULT else pytest.mark.slow) for case in OTHERS],
)
def test_other_samplers_end_where_diffusers_schedulers_do(
    models: Models, kind: str, sampler: str
) -> None:
    model = models(kind)
    parts = replace(model.parts, sampler_name=sampler)
    pipeline = pipeline_of(model.folder)
    if sampler != "model":
        with_scheduler(pipeline, sampler)
    expected = generate(pipeline, parts, STEPS, 3.0)
    for step, latents in zip(run(parts, (), STEPS, 3.0), expected.latents, strict=True):
        assert relative(step.latents, latents) <= 1e-4
