"""Comparisons of two runs: planted changes are reported, reruns are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench.__main__ import main
from bench.config import Config
from bench.errors import UserError
from bench.regression.compare import compared
from bench.regression.scores import quality_changes
from bench.run import run
from bench.runs.calls import CALLS, read_calls
from bench.runs.folder import checksums
from bench.runs.results import Results, read_results


def unseal(folder: Path) -> None:
    """Store the checksums of changed files."""
    facts = json.loads((folder / "run.json").read_text())
    facts["sha256"] = checksums(folder, facts["sha256"])
    (folder / "run.json").write_text(json.dumps(facts))


def spoil(folder: Path, task: str, layer: str, change: float) -> None:
    """Change the headline score of one layer's activations by about ``change`` in each image."""
    rng = np.random.default_rng(0)
    results = read_results(folder)
    scores = load_file(folder / "scores.safetensors")
    for row, cell in enumerate(results.tasks[task].cells):
        if (cell.network, cell.layer, cell.probe) == ("trained", layer, "activations"):
            scores[task][row, 0] += rng.normal(change, abs(change) / 5, scores[task].shape[-1])
    save_file(scores, folder / "scores.safetensors")
    unseal(folder)


def slow_down(folder: Path, factor: float) -> None:
    calls = load_file(folder / CALLS)["calls"]
    calls[:, 3] *= factor
    save_file({"calls": calls}, folder / CALLS)
    unseal(folder)


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["compare", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_run_and_its_copy_do_not_differ(
    small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(
        capsys, small_run.path, copied_run, "--fail-on", "dice:0,rmse:0,latency:0%,memory:0%"
    )
    cells = 2 * 2 * len(small_run.layers) * len(small_run.steps)
    assert code == 0
    assert f"scores: 0 of {cells} figures moved" in text
    assert "speed and memory: 0 of" in text
    assert "no regression" in text


@pytest.mark.parametrize(
    ("task", "metric", "change"), [("saliency", "dice", -0.05), ("depth", "rmse", 0.05)]
)
def test_a_planted_regression_is_found_where_it_is(
    task: str,
    metric: str,
    change: float,
    small_run: Results,
    copied_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(copied_run, task, "up2.1", change)
    code, text = said(capsys, small_run.path, copied_run, "--fail-on", f"{metric}:0.01")
    assert code == 1
    lines = [line for line in text.splitlines() if line.endswith("regression")]
    assert len(lines) == len(small_run.steps)
    assert all(f"{task} up2.1" in line for line in lines)
    assert said(capsys, small_run.path, copied_run, "--fail-on", f"{metric}:0.2")[0] == 0
    assert said(capsys, small_run.path, copied_run)[0] == 0
    # In the other direction the same change is a gain.
    assert said(capsys, copied_run, small_run.path, "--fail-on", f"{metric}:0.01")[0] == 0


def test_a_planted_slowdown_is_found(
    small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_down(copied_run, 3.0)
    code, text = said(capsys, small_run.path, copied_run, "--fail-on", "latency:5%")
    assert code == 1
    assert "x 3.0" in text
    assert said(capsys, copied_run, small_run.path, "--fail-on", "latency:5%")[0] == 0


def test_more_memory_is_found(
    small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((copied_run / "run.json").read_text())
    facts["peak_bytes"] = int(facts["peak_bytes"] * 1.2)
    (copied_run / "run.json").write_text(json.dumps(facts))
    assert said(capsys, small_run.path, copied_run, "--fail-on", "memory:10%")[0] == 1
    assert said(capsys, small_run.path, copied_run, "--fail-on", "memory:30%")[0] == 0


def test_the_memory_of_a_run_of_several_processes_is_not_compared(
    small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(json.dumps(facts | {"processes": 2}))
    code, text = said(capsys, small_run.path, copied_run)
    assert code == 0
    assert f"memory is not compared: {copied_run} " in text
    assert "peak of the process" not in text
    code, text = said(capsys, small_run.path, copied_run, "--fail-on", "memory:5%")
    assert code == 2
    assert "memory cannot be compared" in text


@pytest.mark.parametrize(
    ("fact", "value", "word"), [("threads", 3, "threads (1, 3)"), ("world", 2, "ranks (1, 2)")]
)
def test_runs_of_other_threads_or_ranks_are_unlike(
    fact: str,
    value: int,
    word: str,
    small_run: Results,
    copied_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(json.dumps(facts | {fact: value}))
    assert f"speed is not compared: {word}" in said(capsys, small_run.path, copied_run)[1]


@pytest.mark.parametrize(
    ("fail_on", "sentence"),
    [
        ("dise:0.01", "knows no 'dise'; did you mean dice?"),
        ("latncy:5%", "did you mean latency?"),
        ("dice", "needs a size after dice"),
        ("dice:-1", "needs a size after dice"),
        ("dice:nan", "needs a size after dice"),
        ("latency:5", "such as latency:5%"),
        ("dice:1,dice:2", "names dice twice"),
        ("", "--fail-on is empty"),
    ],
)
def test_a_bad_tolerance_is_one_sentence(
    fail_on: str, sentence: str, small_run: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, small_run.path, small_run.path, "--fail-on", fail_on)
    assert code == 2
    assert sentence in text
    assert len(text.splitlines()) == 1


def test_unlike_machines_are_refused_when_speed_was_asked_for(
    small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((copied_run / "environment.json").read_text())
    facts["processor"], facts["versions"]["torch"] = "another one", "1.0"
    (copied_run / "environment.json").write_text(json.dumps(facts))
    code, text = said(capsys, small_run.path, copied_run, "--fail-on", "latency:5%")
    assert code == 2
    assert "processor (" in text
    assert "another one" in text
    assert "torch (" in text
    code, text = said(capsys, small_run.path, copied_run, "--fail-on", "dice:0.01")
    assert code == 0
    assert "speed is not compared: processor (" in text


def test_a_new_version_of_our_own_is_what_is_compared(
    small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((copied_run / "environment.json").read_text())
    facts["versions"]["scenebench"], facts["commit"] = "9.9", "abc"
    (copied_run / "environment.json").write_text(json.dumps(facts))
    assert said(capsys, small_run.path, copied_run, "--fail-on", "latency:5%")[0] == 0


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [("test_items", "share 0 of"), ("tasks", "run both with the same --tasks")],
)
def test_runs_of_other_items_or_tasks_are_refused(
    fact: str,
    sentence: str,
    small_run: Results,
    copied_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = json.loads((copied_run / "run.json").read_text())
    others = {
        "test_items": [f"other {name}" for name in facts["test_items"]],
        "tasks": {"depth": facts["tasks"]["depth"]},
    }
    facts[fact] = others[fact]
    (copied_run / "run.json").write_text(json.dumps(facts))
    code, text = said(capsys, small_run.path, copied_run)
    assert code == 2
    assert sentence in text


def test_runs_of_other_layers_are_refused(small_run: Results) -> None:
    task = small_run.tasks["depth"]
    keep = [row for row, cell in enumerate(task.cells) if cell.layer != "up3.0"]
    fewer = replace(task, cells=tuple(task.cells[row] for row in keep), scores=task.scores[keep])
    new = replace(small_run, tasks={**small_run.tasks, "depth": fewer})
    with pytest.raises(UserError, match=r"such as up3\.0 at step"):
        quality_changes(small_run, new, [])


def test_every_clock_reading_of_a_run_is_kept(small_run: Results) -> None:
    calls = read_calls(small_run.path)
    for cost in small_run.costs:
        is_network = calls[:, 1] == (cost["network"] != "trained")
        chosen = calls[is_network & (calls[:, 0] == int(cost["step"]) - 1)]
        assert len(chosen) == int(cost["calls"])
        assert np.median(chosen[:, 3] / chosen[:, 2]) * 1e3 == pytest.approx(
            float(cost["median_ms_per_row"]), abs=1e-4
        )


@pytest.mark.slow
def test_a_layer_that_lost_most_of_its_values_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file as load_tensors
    from safetensors.torch import save_file as save_tensors

    from engines.models.tiny import MODEL

    folders = []
    for name in ("whole", "harmed"):
        model = Path(copytree(MODEL.source, tmp_path / name))
        if name == "harmed":
            file = model / "unet" / "diffusion_pytorch_model.safetensors"
            weights = load_tensors(file)
            value = weights["up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_v.weight"]
            value[2:] = 0
            save_tensors(weights, file, {"format": "pt"})
        options = {
            "limit": 120,
            "sampler_steps": 4,
            "layers": ("up1.1", "up2.1"),
            "threads": 1,
            "source": "rendered",
        }
        config = Config(
            **options, model=str(model), random_networks=0, out=str(tmp_path / f"run-{name}")
        )
        folders.append(run(config).path)
    code, text = said(capsys, *folders, "--fail-on", "dice:0.01,rmse:0.01")
    assert code == 1
    lines = [line for line in text.splitlines() if line.endswith("regression")]
    assert lines
    assert all(" up2.1 " in line for line in lines)


@pytest.mark.parametrize("lost", [1, None], ids=["one image", "all images"])
def test_a_score_that_became_undefined_is_a_regression(
    lost: int | None, small_run: Results, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = load_file(copied_run / "scores.safetensors")
    cell = small_run.tasks["depth"].best(network="trained", step=3)
    assert cell is not None
    scores["depth"][small_run.tasks["depth"].row(cell), 0, :lost] = np.nan
    save_file(scores, copied_run / "scores.safetensors")
    unseal(copied_run)
    code, text = said(capsys, small_run.path, copied_run, "--fail-on", "rmse:0.5")
    assert code == 1
    assert "1 regressions" in text
    images = len(small_run.record.test_items)
    assert f"undefined on {lost or images} of {images} images" in text


def test_timings_that_a_run_wrote_and_that_are_missing_are_damage(
    small_run: Results, copied_run: Path
) -> None:
    (copied_run / CALLS).unlink()
    with pytest.raises(UserError, match=f"damaged \\({CALLS} is missing\\)"):
        compared(small_run.path, copied_run, None)
