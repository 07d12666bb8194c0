from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline

from engines.components import Components
from engines.models.tiny import MODEL

PROMPTS = [
    "a red sphere on a sand floor with a blue wall and light from the left",
    "an orange cone on a snow floor with a mint wall and light from the right",
    "",
    "a cat",
    "Überraschung: ein würfel, vielleicht zwei würfel, vielleicht drei",
    "a",
    " ".join(["a red sphere"] * 8),
    "a black box on a stone floor with a grey wall and light from the left",
]


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    progress = diffusers.utils.logging.is_progress_bar_enabled()
    diffusers.utils.logging.disable_progress_bar()
    loaded = StableDiffusionPipeline.from_pretrained(MODEL.source, low_cpu_mem_usage=False)
    if progress:
        diffusers.utils.logging.enable_progress_bar()
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_diffusers_generates_an_image_with_the_shipped_folder(
    pipeline: StableDiffusionPipeline,
) -> None:
    image = pipeline(
        PROMPTS[0], num_inference_steps=2, generator=torch.Generator().manual_seed(0)
    ).images[0]
    assert image.size == (64, 64)
    assert image.mode == "RGB"


def test_embeddings_are_those_of_diffusers(
    components: Components, pipeline: StableDiffusionPipeline
) -> None:
    expected, empty = pipeline.encode_prompt(PROMPTS, "cpu", 1, True)
    torch.testing.assert_close(components.embed(PROMPTS)["text"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(components.embed([""])["text"], empty[:1], rtol=1e-5, atol=1e-5)


def test_images_are_those_of_diffusers(
    components: Components, pipeline: StableDiffusionPipeline
) -> None:
    latents = torch.randn(5, *components.latent_shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        raw = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    expected = pipeline.image_processor.postprocess(raw, output_type="pt")
    torch.testing.assert_close(components.decode(latents), expected, rtol=0, atol=1e-5)


def test_encoding_is_the_mode_of_the_autoencoder(
    components: Components, pipeline: StableDiffusionPipeline
) -> None:
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        mode = pipeline.vae.encode(pipeline.image_processor.preprocess(images)).latent_dist.mode()
    expected = mode * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(components.encode(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["embed", "decode", "encode"])
def test_no_batch_size_changes_a_bit(components: Components, method: str) -> None:
    generator = torch.Generator().manual_seed(3)
    rows = {
        "embed": PROMPTS,
        "decode": torch.randn(8, *components.latent_shape, generator=generator),
        "encode": torch.rand(8, 3, 64, 64, generator=generator),
    }[method]
    call: Callable[..., torch.Tensor] = {
        "embed": lambda prompts: components.embed(prompts)["text"],
        "decode": components.decode,
        "encode": components.encode,
    }[method]
    together = call(rows)
    assert len(together) == 8
    for n in (1, 3, 5):
        assert torch.equal(call(rows[:n]), together[:n])
        assert torch.equal(call(rows[8 - n :]), together[8 - n :])
    for row in range(8):
        assert torch.equal(call(rows[row : row + 1])[0], together[row])


def test_the_sampler_is_the_papers(components: Components) -> None:
    scheduler = components.sampler(15).scheduler
    assert type(scheduler).__name__ == "LMSDiscreteScheduler"
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    levels = ((1 - alphas) / alphas).sqrt()
    timesteps = torch.linspace(999, 0, 15, dtype=torch.float64)
    low = timesteps.floor().long()
    high = (low + 1).clamp(max=999)
    expected = levels[low] + (timesteps - low) * (levels[high] - levels[low])
    assert scheduler.timesteps.tolist() == pytest.approx(timesteps.tolist(), rel=1e-6)
    assert scheduler.sigmas[:15].tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_decoding_in_half_stays_within_half_a_level_of_a_byte(components: Components) -> None:
    half = replace(components, half_decoding=True)
    clean = components.encode(torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
    error = (half.decode(clean) - components.decode(clean)).abs()
    assert 0 < float(error.max()) < 0.001


def test_what_overflows_in_half_is_decoded_in_fp32(components: Components) -> None:
    half = replace(components, half_decoding=True)
    huge = 1e7 * torch.randn(
        2, *components.latent_shape, generator=torch.Generator().manual_seed(3)
    )
    with torch.inference_mode():
        assert not half.decode_raw(huge).isfinite().all()
    assert torch.equal(half.decode(huge), components.decode(huge))
