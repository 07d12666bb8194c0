"""Training of a ControlNet: a few steps on random latents and conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from torch import Tensor

from engines.training import conditions as conditions_module
from engines.training.conditions import CONDITIONS, training_conditions
from engines.training.controlnet import ControlledUNet, write_controlnet
from engines.training.latents import SHIPPED, Latents
from engines.training.loop import Batch, Batches, train
from engines.training.objectives import noise_prediction

PROMPT = "a red sphere on a sand floor with a blue wall and light from the left"
BATCH = 2
STEPS = 2


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.training.loop.BATCH", BATCH)
        yield


@pytest.fixture(scope="module")
def latents() -> Latents:
    straight = torch.randn(2 * BATCH, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return Latents(straight, straight.flip(-1).contiguous(), [PROMPT] * 2 * BATCH)


@pytest.fixture(scope="module")
def masks() -> Tensor:
    """Random masks, one per latent."""
    return torch.rand(2 * BATCH, 1, 64, 64, generator=torch.Generator().manual_seed(1)).round()


def built() -> ControlledUNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ControlledUNet()


def trained(batches: Callable[[int], Batch], work: Path, steps: int = STEPS) -> ControlledUNet:
    """Train a fresh network on the CPU, in the folder ``work``."""
    network = train(
        built(),
        noise_prediction,
        batches,
        recipe="controlnet-mask",
        seed=0,
        steps=steps,
        work=work,
        snapshots={},
        device="cpu",
        graph=False,
    ).network
    assert isinstance(network, ControlledUNet)
    return network


@pytest.fixture(scope="module")
def batches(latents: Latents, masks: Tensor) -> Batches:
    return Batches(latents, built(), seed=0, device="cpu", conditions=masks)


@pytest.fixture(scope="module")
def undisturbed(batches: Batches, tmp_path_factory: pytest.TempPathFactory) -> ControlledUNet:
    return trained(batches, tmp_path_factory.mktemp("controlnet"))


@torch.no_grad()
def loss_on(network: ControlledUNet, batch: Batch) -> float:
    clean, noise, draw, *inputs = batch
    example = noise_prediction(clean, noise, draw)
    error = (network(example.noisy, example.timestep, *inputs) - example.target).square()
    return float((example.weight * error.mean((1, 2, 3))).mean())


def test_an_untrained_controlnet_changes_nothing(batches: Batches) -> None:
    network = built()
    clean, noise, draw, ids, condition = batches(0)
    example = noise_prediction(clean, noise, draw)
    words = network.text_encoder(ids).last_hidden_state
    with torch.no_grad():
        alone = network.unet(example.noisy, example.timestep, words).sample
        assert torch.equal(network(example.noisy, example.timestep, ids, condition), alone)


def test_only_the_controlnet_is_trained(undisturbed: ControlledUNet) -> None:
    before, after = built().state_dict(), undisturbed.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("controlnet.") for name in changed)
    # The condition reaches the output through zero convolutions, so its embedding moves as well.
    assert "controlnet.controlnet_cond_embedding.conv_out.weight" in changed


def test_training_lowers_the_loss_of_a_fixed_batch(
    batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.models.tiny.training.WARMUP_STEPS", 1)
    fixed = batches(0)
    network = trained(lambda _step: fixed, tmp_path, steps=8)
    assert loss_on(network, fixed) < 0.95 * loss_on(built(), fixed)


def test_the_written_folder_controls_the_shipped_model_in_diffusers(
    undisturbed: ControlledUNet, tmp_path: Path
) -> None:
    write_controlnet(undisturbed.controlnet, tmp_path / "controlnet")
    assert sum(path.stat().st_size for path in (tmp_path / "controlnet").iterdir()) < 8e6
    diffusers.utils.logging.disable_progress_bar()
    controlnet = ControlNetModel.from_pretrained(
        tmp_path / "controlnet", torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    for name, value in undisturbed.controlnet.state_dict().items():
        assert torch.equal(controlnet.state_dict()[name], value.half().float()), name
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        SHIPPED,
        controlnet=controlnet,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        low_cpu_mem_usage=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    images = []
    for value in (0.0, 1.0):
        image = pipeline(
            PROMPT,
            image=torch.full((1, 3, 64, 64), value),
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images[0]
        assert image.shape == (64, 64, 3)
        assert bool(np.isfinite(image).all())
        images.append(image)
    assert not np.array_equal(*images)


def test_training_that_was_cut_off_resumes_to_the_same_bits(
    undisturbed: ControlledUNet,
    batches: Batches,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engines.training.loop.SAVE_SECONDS", -1.0)

    def stop(step: int) -> Batch:
        if step:
            raise KeyboardInterrupt
        return batches(step)

    with pytest.raises(KeyboardInterrupt):
        trained(stop, tmp_path)
    steps = []

    def noting(step: int) -> Batch:
        steps.append(step)
        return batches(step)

    resumed = trained(noting, tmp_path)
    assert steps == [1]
    expected, actual = undisturbed.state_dict(), resumed.state_dict()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


def test_a_condition_is_mirrored_with_its_scene(
    latents: Latents, masks: Tensor, batches: Batches
) -> None:
    cases = set()
    for step in range(10):
        clean, _, _, _, conditions = batches(step)
        assert conditions.shape == (BATCH, 3, 64, 64)
        for example, condition in zip(clean, conditions, strict=True):
            mirrored = bool((latents.mirror == example).flatten(1).all(1).any())
            stored = latents.mirror if mirrored else latents.straight
            (index,) = (stored == example).flatten(1).all(1).nonzero().flatten().tolist()
            mask = masks[index].flip(-1) if mirrored else masks[index]
            assert torch.equal(condition, mask.expand(3, -1, -1))
            cases.add(mirrored)
    assert cases == {False, True}


def test_a_condition_adds_nothing_to_the_randomness_of_a_batch(
    latents: Latents, batches: Batches
) -> None:
    plain = Batches(latents, built(), seed=0, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(plain(3), batches(3)[:4], strict=True))


@pytest.mark.parametrize("condition", sorted(CONDITIONS))
def test_conditions_are_the_exact_labels_in_0_to_1(
    condition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((3, 64, 64)) < 0.5
    inverse_depth = rng.uniform(0.05, 1.9, (3, 64, 64)).astype(np.float16)
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "inverse_depth.npy", inverse_depth)
    options: list[str] = []

    def rendered(_work: Path, *given: str) -> Path:
        options.extend(given)
        return tmp_path

    monkeypatch.setattr(conditions_module, "rendered_scenes", rendered)
    expected = {"mask": mask.astype(np.float16), "depth": inverse_depth * np.float16(0.5)}
    actual = training_conditions(tmp_path, condition)
    assert options == ["--labels"]
    assert torch.equal(actual[:, 0], torch.from_numpy(expected[condition]))
