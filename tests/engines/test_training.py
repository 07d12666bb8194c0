"""Training of small models: two steps on random latents, for every recipe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import PixArtAlphaPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline

from engines.training.latents import Latents
from engines.training.loop import Batches, train
from engines.training.recipes import RECIPES, Network
from engines.training.write import write

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
BATCH = 4
STEPS_OFFSET = "The configuration file of this scheduler"
"""Start of diffusers' warning about schedulers with the default ``steps_offset``."""


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.training.loop.BATCH", BATCH)
        yield


@pytest.fixture(scope="module")
def latents() -> Latents:
    """Twice as many random latents as a batch has."""
    generator = torch.Generator().manual_seed(0)
    straight = torch.randn(2 * BATCH, 4, 16, 16, generator=generator)
    return Latents(straight, straight.flip(-1).contiguous(), PROMPTS * BATCH)


def built(name: str) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return RECIPES[name].make(PROMPTS)


def trained(
    name: str,
    latents: Latents,
    work: Path,
    snapshots: dict[int, Path] | None = None,
    before_batch: Callable[[int], None] = lambda _step: None,
) -> Network:
    """Train for ``STEPS`` steps on the CPU, in the folder ``work``."""
    network = built(name)
    batches = Batches(latents, network, seed=0, device="cpu")

    def batch(step: int) -> tuple[torch.Tensor, ...]:
        before_batch(step)
        return batches(step)

    return train(
        network,
        RECIPES[name].objective,
        batch,
        recipe=name,
        seed=0,
        steps=STEPS,
        work=work,
        snapshots=snapshots or {},
        device="cpu",
        graph=False,
    ).network


@dataclass(frozen=True)
class Trained:
    name: str
    network: Network
    snapshot: Path
    """Folder of the averaged network after one step."""


@pytest.fixture(scope="module", params=sorted(RECIPES))
def undisturbed(
    request: pytest.FixtureRequest, latents: Latents, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", STEPS_OFFSET, FutureWarning)
        network = trained(request.param, latents, folder, {1: folder / "snapshot"})
    return Trained(request.param, network, folder / "snapshot")


def test_every_recipe_has_a_pipeline() -> None:
    assert PIPELINES.keys() == RECIPES.keys()


@pytest.mark.filterwarnings(f"ignore:{STEPS_OFFSET}:FutureWarning")
def test_two_steps_write_a_folder_that_diffusers_generates_from(
    undisturbed: Trained, tmp_path: Path
) -> None:
    write(undisturbed.network, tmp_path / "model")
    assert (undisturbed.snapshot / "model_index.json").is_file()
    pipeline_class, parts = PIPELINES[undisturbed.name]
    diffusers.utils.logging.disable_progress_bar()
    pipeline = pipeline_class.from_pretrained(tmp_path / "model", low_cpu_mem_usage=False, **parts)
    pipeline.set_progress_bar_config(disable=True)
    # PixArt's resolution bins start at 256 x 256 pixels.
    options = {"use_resolution_binning": False, "clean_caption": False}
    image = pipeline(
        PROMPTS[0],
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        **(options if pipeline_class is PixArtAlphaPipeline else {}),
    ).images[0]
    assert image.shape == (64, 64, 3)
    assert bool(np.isfinite(image).all())
    assert float(image.std()) > 0


def test_training_that_was_cut_off_resumes_to_the_same_bits(
    undisturbed: Trained, latents: Latents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Save after every step, and stop before the second one.
    monkeypatch.setattr("engines.training.loop.SAVE_SECONDS", -1.0)

    def stop(step: int) -> None:
        if step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(undisturbed.name, latents, tmp_path, before_batch=stop)
    steps: list[int] = []
    resumed = trained(undisturbed.name, latents, tmp_path, before_batch=steps.append)
    assert steps == [1]
    expected, actual = undisturbed.network.state_dict(), resumed.state_dict()
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
    for step in range(100):
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
