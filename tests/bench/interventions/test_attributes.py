"""Edits of attributes: directions, targets and the matrix of edited x measured attributes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.__main__ import main
from bench.config import Config
from bench.interventions.attributes import METHODS, aim_of, change_of
from bench.interventions.image_probes import ImageProbes
from bench.run import run
from bench.runs.results import probe_name
from datasets.grid import WHOLE
from datasets.items import Item
from probes.edit import Probe, activation_pattern
from probes.probe_set import ACTIVATIONS, Cell

C, K = 6, 5


def case() -> tuple[torch.Tensor, Probe, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(C, K, generator=draw, dtype=torch.float64)
    mixing = torch.randn(C, C, generator=draw, dtype=torch.float64)
    probe = Probe(weights, torch.zeros(K).double(), activation_pattern(weights, mixing @ mixing.mT))
    mean = torch.randn(3, C, generator=draw, dtype=torch.float64)
    return mean, probe, torch.randn(K, C, generator=draw, dtype=torch.float64)


def items(count: int) -> tuple[Item, ...]:
    return tuple(Item(str(seed), "", seed, "test") for seed in range(count))


def test_the_target_is_another_class_that_belongs_to_the_item() -> None:
    before = torch.arange(40) % 5
    aim = aim_of("floor", items(40), before)
    assert (aim.target != before).all()
    assert aim.target.max() < 5
    assert torch.equal(aim.target[:7], aim_of("floor", items(7), before[:7]).target)
    assert len(set(((aim.target - before) % 5).tolist())) == 4
    # Of two classes, the target is the other one.
    assert torch.equal(aim_of("light", items(2), torch.tensor([0, 1])).target, torch.tensor([1, 0]))


@pytest.mark.parametrize("method", ["weights", "pattern"])
def test_at_strength_one_the_probe_reads_the_target_class(method: str) -> None:
    mean, probe, means = case()
    aim = aim_of("floor", items(3), torch.tensor([0, 3, 4]))
    after = probe.read((mean + change_of(method, mean, probe, means, aim))[:, None])[:, 0]
    expected = torch.nn.functional.one_hot(aim.target, K).double()
    torch.testing.assert_close(after, expected, atol=1e-8, rtol=0)


def test_the_difference_of_means_leads_from_the_own_class_to_the_target() -> None:
    mean, probe, means = case()
    aim = aim_of("floor", items(3), torch.tensor([0, 3, 4]))
    change = change_of("means", mean, probe, means, aim)
    torch.testing.assert_close(means[aim.before] + change, means[aim.target])


@pytest.mark.slow
def test_a_matrix_is_printed_and_stored_and_resumes(
    small_config: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = small_config | {"limit": 40, "tasks": ("colour", "light", "saliency")}
    path = run(Config(**options, out=str(tmp_path / "run"))).path  # type: ignore[arg-type]
    arguments = [
        *("intervene", str(path), "--attributes", "--items", "2", "--strengths", "1,4"),
        *("--steps", "1-2", "--threads", "1"),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for method in METHODS:
        assert f"\n{method}\n" in printed
    stored = json.loads((path / "interventions" / "attributes" / "attributes.json").read_text())
    assert len(stored["entries"]) == 2 * 2 * len(METHODS)

    def refuse(*_: object) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr("bench.interventions.generator.ImageGenerator._generate", refuse)
    assert main(arguments) == 0


def test_probes_of_images_have_the_pattern_and_the_class_means_of_their_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = torch.Generator().manual_seed(1)
    means, classes = torch.randn(30, C, generator=draw), torch.arange(30) % (K - 1)
    weights, cell = (
        torch.randn(C, K, generator=draw),
        Cell("trained", "up", 0, ACTIVATIONS, 0, WHOLE),
    )
    stem = probe_name("floor", cell)
    stored = {f"{stem}/weights": weights, f"{stem}/intercept": torch.zeros(K)}
    monkeypatch.setattr("bench.interventions.image_probes.read_probes", lambda *_: stored)
    task = SimpleNamespace(where=lambda **_: [cell])
    results: Any = SimpleNamespace(tasks={"floor": task})
    probes = ImageProbes(results, "floor", {"up/0": means, "class/floor": classes})
    expected = activation_pattern(weights.double(), torch.from_numpy(np.cov(means.numpy().T)))
    torch.testing.assert_close(probes.get("up", 0).pattern.double(), expected, rtol=1e-3, atol=1e-5)
    by_class = probes.means("up", 0)
    for index in range(K - 1):
        torch.testing.assert_close(by_class[index], means[classes == index].mean(0))
    # No image is of the last class.
    torch.testing.assert_close(by_class[-1], means.mean(0))


def test_a_run_without_image_level_probes_is_refused(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--items", "2", "--steps", "1", "--threads", "1"]
    assert main(["intervene", str(copied_run), "--attributes", *few]) == 2
    assert "has no probes of whole images" in capsys.readouterr().err
