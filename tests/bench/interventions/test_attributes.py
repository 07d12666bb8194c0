"""Edits of attributes: directions, targets and the matrix of edited x measured attributes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control

from bench.__main__ import main
from bench.config import Config
from bench.interventions.arms import EDIT, RANDOM, random_directions
from bench.interventions.attribute_matrix import METHODS, AttributeArm, arms_of, matrix, text_of
from bench.interventions.attributes import Aim, aim_of, change_of, edit_at, outcomes_of
from bench.interventions.equal_change import Matched
from bench.interventions.image_probes import ImageProbes
from bench.interventions.records import CHANGED, AttributeTable
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


def test_every_row_is_edited_at_its_own_strength_along_its_own_direction() -> None:
    mean, probe, means = case()
    aim = aim_of("floor", items(3), torch.tensor([0, 3, 4]))
    probes: Any = SimpleNamespace(get=lambda *_: probe, means=lambda *_: means)
    x = mean[:, None] + torch.zeros(3, 4, 1).double()
    strengths = torch.tensor([0.0, 1.0, 3.0]).double()
    own = change_of("pattern", mean, probe, means, aim)
    drawn = torch.stack([random_directions(item, "up", (C, 1))[:, 0] for item in aim.items])
    directions = {EDIT: own, RANDOM: drawn.double() * own.norm(dim=-1, keepdim=True)}
    for control, direction in directions.items():
        arm = AttributeArm("floor", "pattern", control)
        edited = edit_at(arm, strengths, probes, aim, 0)("up", x)
        expected = x + (strengths[:, None] * direction)[:, None]
        torch.testing.assert_close(edited, expected, rtol=1e-6, atol=1e-6)


def test_outcomes_are_the_target_side_effects_and_any_change() -> None:
    before = {"floor": torch.tensor([0, 1, 2]), "wall": torch.tensor([3, 3, 3])}
    aim = Aim(items(3), before["floor"], torch.tensor([4, 4, 4]))
    # The first reaches its target, the second another class, and the third keeps its own; the wall
    # of the third changes.
    after = {"floor": torch.tensor([4, 0, 2]), "wall": torch.tensor([3, 3, 1])}
    found = outcomes_of("floor", after, before, aim)
    assert found.tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    # Edits of the other attribute have their columns in the same order.
    aim = Aim(items(3), before["wall"], torch.tensor([1, 1, 1]))
    assert outcomes_of("wall", after, before, aim).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_some_rows_of_an_aim_keep_their_classes() -> None:
    aim = aim_of("floor", items(4), torch.tensor([0, 3, 4, 1]))
    part = aim.take([2, 0])
    assert [item.id for item in part.items] == ["2", "0"]
    assert part.before.tolist() == [4, 0]
    assert torch.equal(part.target, aim.target[[2, 0]])


@pytest.mark.parametrize("seed", range(8))
def test_rounding_of_the_weights_of_classes_is_no_direction_of_the_pattern(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    channels = 32
    basis = torch.linalg.qr(torch.randn(channels, channels, generator=draw).double()).Q
    covariance = basis @ torch.diag(torch.logspace(4, -2, channels).double()) @ basis.mT
    # As of a ridge probe of indicators, which add up to 1: small weights where activations vary
    # much, stored in single precision.
    weights = torch.linalg.solve(covariance, torch.randn(channels, K, generator=draw).double())
    weights = (weights - weights.mean(1, keepdim=True)).float().double()
    pattern = activation_pattern(weights, covariance)
    probe = Probe(weights, torch.full((K,), 1 / K).double(), pattern)
    mean = torch.randn(3, channels, generator=draw).double()
    aim = aim_of("floor", items(3), torch.tensor([0, 3, 4]))
    change = change_of("pattern", mean, probe, torch.zeros(K, channels).double(), aim)
    after = probe.read((mean + change)[:, None])[:, 0]
    expected = torch.nn.functional.one_hot(aim.target, K).double()
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=0)


def test_the_difference_of_means_leads_from_the_own_class_to_the_target() -> None:
    mean, probe, means = case()
    aim = aim_of("floor", items(3), torch.tensor([0, 3, 4]))
    change = change_of("means", mean, probe, means, aim)
    torch.testing.assert_close(means[aim.before] + change, means[aim.target])


TASKS = ["colour", "light"]
N = 40


def trials(seed: int = 0) -> dict[AttributeArm, Matched]:
    """Edits of colour along the means hit colour; all else is noise, and edits of light along the
    weights change every second image by too little."""
    rng = np.random.default_rng(seed)
    made = {}
    for arm in arms_of(TASKS):
        strength, change = np.full(N, 4.0), np.full(N, 0.1)
        if arm == AttributeArm("light", "weights", EDIT):
            strength[:30], change[::2] = 32.0, 0.07
        outcome = (rng.random((N, 3)) < 0.3).astype(np.int64)
        if arm == AttributeArm("colour", "means", EDIT):
            outcome[:, 0] = 1
        made[arm] = Matched(strength, change, outcome)
    return made


def test_every_cell_says_at_which_strength_and_how_many_images_change_as_stated() -> None:
    cells = matrix(trials(), TASKS, 0.1)
    assert len(cells) == 2 * 3 * len(METHODS)
    for cell in cells:
        is_weak = (cell.edited, cell.method) == ("light", "weights")
        assert cell.reached == (0.5 if is_weak else 1.0)
        assert cell.strength == (32.0 if is_weak else 4.0)
        assert cell.random_reached == 1.0


def test_cells_are_tested_together_and_a_hit_is_of_the_edited_attribute() -> None:
    made = trials()
    entries = matrix(made, TASKS, 0.1)
    np.testing.assert_allclose(
        [x.q for x in entries], false_discovery_control([x.p for x in entries])
    )
    assert {(x.edited, x.method) for x in entries if x.hit} == {("colour", "means")}
    for entry in entries:
        edit, random = (
            made[AttributeArm(entry.edited, entry.method, control)].outcome[
                :, [*TASKS, CHANGED].index(entry.measured)
            ]
            for control in (EDIT, RANDOM)
        )
        assert entry.share[0] == pytest.approx(edit.mean())
        assert entry.random[0] == pytest.approx(random.mean())
        assert entry.gain[0] == pytest.approx((edit - random).mean())
        low, high = entry.gain[1:]
        assert (low > 0 or high < 0) == (entry.p <= 0.05)


def test_shares_and_gains_without_spread_have_exact_intervals() -> None:
    made = trials()
    for control in (EDIT, RANDOM):
        made[AttributeArm("light", "means", control)].outcome[:, 0] = 0
    made[AttributeArm("colour", "means", RANDOM)].outcome[:, 0] = 0
    cells = {(x.edited, x.measured, x.method): x for x in matrix(made, TASKS, 0.1)}
    # Of no image in n, the share is below u where (1 - u)^n = 0.025; of gains 0.0125.
    none, hit = cells["light", "colour", "means"], cells["colour", "colour", "means"]
    assert none.share == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / N)))
    reach = 1 - 0.0125 ** (1 / N)
    assert none.gain == pytest.approx((0.0, -reach, reach))
    assert none.p == 1.0
    assert hit.share == pytest.approx((1.0, 0.025 ** (1 / N), 1.0))
    assert hit.gain == pytest.approx((1.0, 1 - 2 * reach, 1.0))
    assert hit.hit


def test_the_table_shows_what_every_cell_counts() -> None:
    entries = matrix(trials(), TASKS, 0.1)
    table = AttributeTable(change=0.1, layers=("up",), steps=(1,), items=N, entries=entries)
    text = text_of(table)
    assert "over 18 comparisons" in text
    weights = text.split("\nweights\n")[1].split("\npattern\n")[0]
    (line,) = [line for line in weights.splitlines() if line.startswith("light ")]
    assert line.split()[1:5] == ["32", "50%,", "100%", "no"]
    cells = [x for x in entries if (x.edited, x.method) == ("light", "weights")]
    assert all(f"q {x.q:.3f})" in line for x in cells)
    means = text.split("\nmeans\n")[1].split("\nweights\n")[0]
    assert [line.split()[4] for line in means.splitlines()[2:4]] == ["yes", "no"]


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
        *("intervene", str(path), "--attributes", "--items", "2"),
        *("--steps", "1-2", "--threads", "1"),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for method in METHODS:
        assert f"\n{method}\n" in printed
    stored = json.loads((path / "interventions" / "attributes" / "attributes.json").read_text())
    assert len(stored["entries"]) == 2 * 3 * len(METHODS)
    assert stored["items"] == 2
    for entry in stored["entries"]:
        shares = [entry["share"][0], entry["random"][0], entry["reached"], entry["random_reached"]]
        assert set(shares) <= {0.0, 0.5, 1.0}

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
