"""Interventions on the small run: stored files, resumption, refusals and images."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.__main__ import main
from bench.interventions.arms import EDIT, LATE, NULL, RANDOM, Arm, EditProbes, edit_at
from bench.interventions.config import Plan
from bench.interventions.records import read_summary
from bench.interventions.runner import (
    EditableRun,
    edits,
    movable,
    open_editable,
    open_probes,
    run_arms,
)
from bench.interventions.summary import by_permutation, claim, rows
from bench.interventions.trials import NO_EDIT
from bench.networks import recorded_model
from bench.report.interventions import panel
from bench.runs.results import Results, read_results
from extract.stream import BlockInput, stream
from probes.probe_set import PERMUTED

FEW = [
    *("--items", "2", "--shifts", "2", "--choose-items", "2"),
    *("--steps", "1-2", "--late-steps", "4", "--threads", "1"),
]
LAYERS = ("up2.1", "up3.0")


@pytest.fixture(scope="module")
def run_path(small_run: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run with an experiment in it."""
    path = tmp_path_factory.mktemp("intervened") / "run"
    shutil.copytree(small_run.path, path)
    assert main(["intervene", str(path), *FEW, "--methods", "pattern", "--strengths", "2,8"]) == 0
    return path


@pytest.fixture(scope="module")
def run(run_path: Path) -> EditableRun:
    return open_editable(read_results(run_path), 1)


@pytest.fixture(scope="module")
def probes(run: EditableRun) -> EditProbes:
    arms = [Arm("published", control, 1.0, ("up2.1",), (1,)) for control in (EDIT, PERMUTED)]
    return open_probes(run, "saliency", arms)


def pattern(strength: float, control: str = EDIT, steps: tuple[int, ...] = (0, 1)) -> Arm:
    return Arm("pattern", control, strength, LAYERS, steps)


def test_the_table_holds_every_trial_of_every_arm(run_path: Path) -> None:
    with (run_path / "interventions" / "saliency" / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    arms = {(row["method"], row["control"], row["strength"]) for row in rows}
    controls = (EDIT, RANDOM, PERMUTED, LATE)
    summary = read_summary(run_path, "saliency")
    assert summary is not None
    chosen = f"{summary.chosen.strength:g}"
    assert arms == {("null", "null", "0")} | {
        ("pattern", c, s)
        for c in controls
        for s in ("2", "8")
        if c in (EDIT, RANDOM) or s == chosen
    }
    assert len(rows) == len(arms) * 2 * 2
    null = [row for row in rows if row["control"] == NULL]
    assert all(float(row["dice_original"]) == 1 and float(row["damage"]) == 0 for row in null)
    assert all(11 <= abs(int(row[axis])) <= 15 for row in rows for axis in ("down", "right"))
    assert {row["steps"] for row in rows if row["control"] == LATE} == {"4"}


def test_the_summary_averages_shifts_before_it_pairs_items(run_path: Path) -> None:
    with (run_path / "interventions" / "saliency" / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    def per_item(control: str, strength: str) -> np.ndarray:
        arm = [row for row in rows if (row["control"], row["strength"]) == (control, strength)]
        items = sorted({row["item"] for row in arm})
        return np.array(
            [
                np.mean([float(r["dice_shifted"]) for r in arm if r["item"] == item])
                for item in items
            ]
        )

    summary = read_summary(run_path, "saliency")
    assert summary is not None
    (arm,) = [arm for arm in summary.arms if (arm.control, arm.strength) == (EDIT, 8.0)]
    assert arm.gains is not None
    difference = per_item(EDIT, "8") - per_item(RANDOM, "8")
    assert arm.gains[RANDOM][0] == pytest.approx(difference.mean(), abs=1e-5)
    # Two items cannot reject: the interval's ends are those of the two items and zero.
    ends = min(*difference, 0.0), max(*difference, 0.0)
    assert arm.gains[RANDOM][1:] == pytest.approx(ends, abs=1e-5)
    assert summary.chosen.strength in (2.0, 8.0)
    assert not set(summary.choose_items) & set(summary.test_items)
    assert summary.permutations == 2
    chosen = summary.chosen_arm
    assert chosen.gains is not None
    assert len(chosen.gains_by_permutation) == 2
    assert np.mean(chosen.gains_by_permutation) == pytest.approx(chosen.gains[PERMUTED][0])
    (line,) = by_permutation(summary)
    assert ", ".join(f"{gain:.3f}" for gain in chosen.gains_by_permutation) in line


def test_the_trials_of_the_choice_are_stored_apart(run_path: Path) -> None:
    with (run_path / "interventions" / "saliency" / "choice.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    summary = read_summary(run_path, "saliency")
    assert summary is not None
    assert {row["split"] for row in rows} == {"train"}
    assert {row["item"] for row in rows} == set(summary.choose_items)
    means = {
        strength: np.mean([float(r["dice_shifted"]) for r in rows if r["strength"] == strength])
        for strength in ("2", "8")
    }
    for arm in summary.choice:
        if arm.control == EDIT:
            found = arm.scores["dice_shifted"][0]
            assert found == pytest.approx(means[f"{arm.strength:g}"], abs=1e-5)


def test_a_second_call_generates_nothing_and_changes_nothing(
    run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("generated again")

    before = (run_path / "interventions" / "saliency" / "summary.json").read_bytes()
    monkeypatch.setattr("bench.interventions.generator.ImageGenerator._generate", refuse)
    assert (
        main(["intervene", str(run_path), *FEW, "--methods", "pattern", "--strengths", "2,8"]) == 0
    )
    assert (run_path / "interventions" / "saliency" / "summary.json").read_bytes() == before


def test_unedited_images_are_the_runs_own(run: EditableRun) -> None:
    items = run.items("test")[:2]
    (originals,) = run.originals(items)
    block = BlockInput([item.prompt for item in items], [item.seed for item in items])
    recorded, networks = recorded_model(run.study)
    networks.open()
    output, _ = stream(recorded, block, [], (), run.study.reader)
    assert torch.allclose(originals.images, output.images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [(0, 1), (2,)])
def test_an_edit_of_no_strength_gives_the_unedited_image(
    run: EditableRun, probes: EditProbes, steps: tuple[int, ...]
) -> None:
    originals, _ = movable(run, "test", 2, 2)
    target = run.study.tasks["saliency"].target(run.study.reader(originals.images)).double()
    images = run.generator.edited(pattern(0.0, steps=steps), probes, originals, target)
    assert torch.allclose(images, originals.images, rtol=0, atol=1e-3)
    changed = run.generator.edited(pattern(8.0, steps=steps), probes, originals, target)
    assert (changed - originals.images).abs().max() > 0.05


@pytest.mark.parametrize("control", [RANDOM, PERMUTED])
@pytest.mark.parametrize("method", ["weights", "pattern", "ridge-adam", "published"])
def test_controls_have_the_norm_of_their_edit_at_every_token(
    method: str, control: str, run: EditableRun, probes: EditProbes
) -> None:
    items, grid = run.items("test")[:2], probes.grid("up2.1", 1)
    channels = len(probes.ridge.get("up2.1", 1).weights)
    x = torch.randn(2, grid.tokens, channels, generator=torch.Generator().manual_seed(0))
    target = (torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    arms = [Arm(method, kind, 3.0, ("up2.1",), (1,)) for kind in (EDIT, control)]
    change, other = (
        edit_at(arm, probes, 1, items, probes.targets(arm, target), (0, 1))("up2.1", x) - x
        for arm in arms
    )
    assert torch.allclose(change.norm(dim=-1), other.norm(dim=-1), rtol=1e-3, atol=1e-5)
    assert torch.cosine_similarity(change, other, dim=-1).abs().mean() < 0.9
    if control == RANDOM:
        # One direction per item.
        assert torch.linalg.matrix_rank(other[0], rtol=1e-3) == 1
        assert abs(float(torch.cosine_similarity(other[0, 0], other[1, 0], dim=0))) < 0.9


def test_the_shifts_of_an_image_take_the_permutations_in_turn(
    run: EditableRun, probes: EditProbes
) -> None:
    assert probes.draws == (1, 2, 3, 4, 5)
    items, grid = [run.items("test")[0]] * 7, probes.grid("up2.1", 1)
    channels = len(probes.ridge.get("up2.1", 1).weights)
    x = torch.randn(1, grid.tokens, channels, generator=torch.Generator().manual_seed(0))
    target = (torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    arm = Arm("pattern", PERMUTED, 3.0, ("up2.1",), (1,))
    rows = x.expand(7, -1, -1)
    aims = probes.targets(arm, target.expand(7, -1, -1, -1))
    changed = edit_at(arm, probes, 1, items, aims, range(7))("up2.1", rows) - rows
    for number in range(7):
        aim = {place: aims[place][:1] for place in aims}
        alone = edit_at(arm, probes, 1, items[:1], aim, [number % 5])("up2.1", x) - x
        torch.testing.assert_close(changed[number], alone[0], rtol=1e-4, atol=1e-5)
    for one in range(5):
        for other in range(one):
            assert not torch.allclose(changed[one], changed[other], rtol=0.1)


def test_batches_change_no_score(run: EditableRun, probes: EditProbes) -> None:
    plan = Plan(
        items=3,
        shifts=2,
        batch=2,
        methods=("pattern",),
        strengths=(4.0,),
        layers=LAYERS,
        steps=(1, 2),
    )
    small = run_arms(run, probes, "test", 3, plan, edits(plan))
    large = run_arms(run, probes, "test", 3, replace(plan, batch=6), edits(plan))
    (arm,) = edits(plan)
    assert small.scores(arm).shape == (3, 2, len(small.columns))
    assert np.allclose(small.scores(arm)[..., :-1], large.scores(arm)[..., :-1], rtol=0, atol=1e-2)
    assert np.array_equal(small.scores(NO_EDIT), large.scores(NO_EDIT), equal_nan=True)


def test_depth_is_scored_in_its_own_measures(
    run_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("--task", "depth", "--methods", "weights"),
        *("--strengths", "1", "--controls", "random"),
    ]
    assert main(["intervene", str(run_path), *FEW, *arguments]) == 0
    printed = capsys.readouterr().out
    assert "rmse aligned shifted" in printed
    assert "rmse shifted" in printed
    assert "spearman original" in printed
    summary = read_summary(run_path, "depth")
    assert summary is not None
    assert summary.plan.layers == ("mid.0", "up2.1", "up3.0")
    null = summary.arms[0].scores
    assert null["rmse_original"][0] == pytest.approx(0, abs=1e-6)
    assert null["rmse_shifted"][0] > 0.1


def test_the_panel_is_whole_and_escaped(run_path: Path, tmp_path: Path) -> None:
    page = panel(run_path)
    assert page is not None
    assert page.count('src="data:image/png;base64,') >= 2 * 5
    assert "dice shifted" in page
    assert re.search(
        r"95 % intervals, \d+ of them in the table: the claim is the chosen row(&#39;|')s", page
    )
    copy = shutil.copytree(run_path, tmp_path / "run")
    path = copy / "interventions" / "saliency" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "<script>"}))
    (copy / "interventions" / "saliency" / "grid.safetensors").unlink()
    page = panel(copy)
    assert page is not None
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_run_without_interventions_has_no_panel(small_run: Results) -> None:
    assert panel(small_run.path) is None


def test_gains_stand_where_there_is_a_control(run_path: Path) -> None:
    summary = read_summary(run_path, "saliency")
    assert summary is not None
    table = {row["strength"]: row for row in rows(summary) if row["method"] == "pattern"}
    chosen = f"{summary.chosen.strength:g}"
    (other,) = set(table) - {chosen}
    for control in (PERMUTED, LATE):
        assert "[" in table[chosen][f"gain over {control}"]
        assert table[other][f"gain over {control}"] == ""
        assert f"over {control} " in claim(summary)
    assert all("[" in row["gain over random"] for row in table.values())
