"""Training of small models: two steps on random latents, for every recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import PixArtAlphaPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline

from engines.training.__main__ import write
from engines.training.latents import Latents
from engines.training.loop import BATCH, Batches, train
from engines.training.recipes import RECIPES, Network

PROMPTS = [
    "a red sphere on a sand floor with a blue wall and light from the left",
    "an orange cone on a snow floor with a mint wall and light from the right",
]
STEPS = 2
PIPELINES: dict[str, tuple[type, dict[str, Any]]] = {
    "unet-noise": (StableDiffusionPipeline, {}),
    "unet-flow": (StableDiffusionPipeline, {}),
    "mmdit-flow": (StableDiffusion3Pipeline, {"text_encoder_3": None, "tokenizer_3": None}),
    "dit-noise": (PixArtAlphaPipeline, {}),
}
"""Recipe -> diffusers' class of its pipeline, and arguments to load it."""
SMALL_BATCH = 4
every_recipe = pytest.mark.parametrize("name", sorted(RECIPES))


@pytest.fixture(scope="module")
def latents() -> Latents:
    """As many random latents as a batch has."""
    generator = torch.Generator().manual_seed(0)
    straight = torch.randn(BATCH, 4, 16, 16, generator=generator)
    return Latents(straight, straight.flip(-1).contiguous(), PROMPTS * (BATCH // 2))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.training.loop.BATCH", SMALL_BATCH)


def built(name: str) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return RECIPES[name].make(PROMPTS)


def trained(
    name: str,
    latents: Latents,
    checkpoint: Path,
    snapshots: dict[int, Callable[[Network], None]] | None = None,
    after_batch: Callable[[int], None] = lambda _step: None,
) -> Network:
    """Train for ``STEPS`` steps on the CPU."""
    network = built(name)
    batches = Batches(latents, network, seed=0, device="cpu")

    def batch(step: int) -> tuple[torch.Tensor, ...]:
        after_batch(step)
        return batches(step)

    return train(
        network,
        RECIPES[name].objective,
        batch,
        steps=STEPS,
        checkpoint=checkpoint,
        snapshots=snapshots or {},
        device="cpu",
        graph=False,
    )


def test_every_recipe_has_a_pipeline() -> None:
    assert PIPELINES.keys() == RECIPES.keys()


@every_recipe
@pytest.mark.usefixtures("small_batches")
@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
def test_two_steps_write_a_folder_that_diffusers_generates_from(
    name: str, latents: Latents, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshot"
    network = trained(name, latents, tmp_path / "training.pt", {1: partial(write, out=snapshot)})
    write(network, tmp_path / "model")
    pipeline_class, arguments = PIPELINES[name]
    assert (snapshot / "model_index.json").is_file()
    diffusers.utils.logging.disable_progress_bar()
    pipeline = pipeline_class.from_pretrained(
        tmp_path / "model", low_cpu_mem_usage=False, **arguments
    )
    pipeline.set_progress_bar_config(disable=True)
    # PixArt's resolution bins start at 256 x 256 pixels.
    options = {"use_resolution_binning": False, "clean_caption": False}
    image = pipeline(
        PROMPTS[0],
        **(options if pipeline_class is PixArtAlphaPipeline else {}),
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images[0]
    assert image.shape == (64, 64, 3)
    assert bool(np.isfinite(image).all())
    assert float(image.std()) > 0


@every_recipe
@pytest.mark.usefixtures("small_batches")
def test_training_that_was_cut_off_resumes_to_the_same_bits(
    name: str, latents: Latents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(name, latents, tmp_path / "whole.pt").state_dict()
    # Save after every step, and stop before the second one.
    monkeypatch.setattr("engines.training.loop.SAVE_SECONDS", -1.0)

    def stop(step: int) -> None:
        if step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(name, latents, tmp_path / "cut.pt", after_batch=stop)
    steps: list[int] = []
    actual = trained(name, latents, tmp_path / "cut.pt", after_batch=steps.append).state_dict()
    assert steps == [1]
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], value) for key, value in expected.items())


def test_a_batch_depends_on_seed_and_step_only(latents: Latents) -> None:
    network = built("unet-noise")

    def batch(seed: int, step: int) -> tuple[torch.Tensor, ...]:
        return Batches(latents, network, seed, "cpu")(step)

    first = batch(3, 7)
    torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(first, batch(3, 7), strict=True))
    for other in (batch(4, 7), batch(3, 8)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_mirrored_latents_come_with_mirrored_prompts(latents: Latents) -> None:
    """The first prompt's light comes from the left, and from the right in its mirror image."""
    network = built("unet-noise")
    batches = Batches(latents, network, 0, "cpu")
    empty = network.tokenize([""])[0]
    straight = network.tokenize(PROMPTS)
    mirrored = network.tokenize(
        [PROMPTS[0].replace("the left", "the right"), PROMPTS[1].replace("the right", "the left")]
    )
    cases = set()
    for step in range(4):
        clean, _, _, tokens = batches(step)
        for example, ids in zip(clean, tokens, strict=True):
            is_mirrored = bool((latents.mirror == example).flatten(1).all(1).any())
            stored = latents.mirror if is_mirrored else latents.straight
            (index,) = (stored == example).flatten(1).all(1).nonzero().flatten().tolist()
            is_empty = torch.equal(ids, empty)
            if not is_empty:
                assert torch.equal(ids, (mirrored if is_mirrored else straight)[index % 2])
            cases.add((is_mirrored, is_empty))
    assert len(cases) == 4
