"""A run as a whole: same scores whatever the batches, shards and crashes."""

from __future__ import annotations

import importlib
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import study as study_module
from bench.config import Config
from bench.errors import UserError
from bench.run import run
from bench.runs.results import Results, read_results
from bench.runs.workers import Merger, part_of
from datasets.items import Dataset
from datasets.sets.scenes617 import DATASET
from datasets.splits import blocks_of, grouped
from extract.errors import ExtractError
from extract.shards import Shards
from probes.probe_set import ACTIVATIONS, PERMUTED, WITH_POSITION

ROOT = Path(__file__).parents[2]
FEW = {
    "engine": "torch_eager",
    "sampler_steps": 2,
    "layers": ("mid",),
    "random_networks": 0,
    "threads": 1,
}
"""Options of a run smaller than the small one."""


def scores(results: Results) -> dict[str, np.ndarray]:
    return {name: task.scores for name, task in results.tasks.items()}


def largest_difference(a: Results, b: Results) -> float:
    return max(float(np.nanmax(np.abs(a.tasks[n].scores - b.tasks[n].scores))) for n in a.tasks)


def test_every_cell_of_every_layer_step_and_probe_is_scored(small_run: Results) -> None:
    for task in small_run.tasks.values():
        for layer in small_run.layers:
            for step in range(4):
                for probe, count in ((ACTIVATIONS, 1), (WITH_POSITION, 1), (PERMUTED, 5)):
                    assert (
                        len(task.where(network="trained", layer=layer, step=step, probe=probe))
                        == count
                    )
                assert len(task.where(network="random-1", layer=layer, step=step)) == 2
        assert len(task.where(network="input")) == 8
        assert len(task.where(network="clean")) == 8
        masks = {"all foreground"} if task.name == "saliency" else set()
        assert {cell.network for cell in task.where(step=-1)} == {
            "position",
            "mean map",
            "ceiling",
        } | masks
        assert task.scores.shape == (
            len(task.cells),
            len(task.metrics),
            len(small_run.record.test_items),
        )


def test_the_area_of_every_test_image_s_object_lies_beside_the_scores(small_run: Results) -> None:
    task, area = small_run.tasks["saliency"], small_run.foreground
    assert area is not None
    (everything,) = task.where(network="all foreground")
    np.testing.assert_allclose(task.score(everything), 2 * area / (1 + area), rtol=1e-12)


def test_every_file_of_a_run_may_be_read_like_any_new_file_and_no_folder_is_left(
    small_run: Results, tmp_path: Path
) -> None:
    (tmp_path / "any").write_text("")
    modes = {path.name: path.stat().st_mode for path in small_run.path.iterdir() if path.is_file()}
    assert {"scores.safetensors", "run.json"} <= set(modes)
    assert set(modes.values()) == {(tmp_path / "any").stat().st_mode}
    assert not [path for path in small_run.path.iterdir() if path.is_dir()]


def test_thresholds_exist_for_masks_only(small_run: Results) -> None:
    assert np.isfinite(small_run.tasks["saliency"].thresholds).all()
    assert np.isnan(small_run.tasks["depth"].thresholds).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"batch": 3}, {"batch": 64}, {"shard": 1}, {"shard": 100}], ids=str
)
def test_batch_and_shard_size_change_no_score(
    change: dict[str, int], small_run: Results, small_config: dict[str, object], tmp_path: Path
) -> None:
    other = read_results(run(Config(**(small_config | change), out=str(tmp_path / "run"))).path)
    assert largest_difference(small_run, other) <= 1e-6


@pytest.mark.slow
def test_pytorch_and_onnxruntime_give_equal_scores(
    small_run: Results, small_config: dict[str, object], tmp_path: Path
) -> None:
    other = read_results(
        run(Config(**small_config, engine="torch_eager", out=str(tmp_path / "run"))).path
    )
    for name, task in small_run.tasks.items():
        means = [np.nanmean(results.tasks[name].scores, axis=-1) for results in (small_run, other)]
        assert np.nanmax(np.abs(means[0] - means[1])) <= 1e-3
        assert len(task.cells) == len(other.tasks[name].cells)


def test_item_order_changes_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ordered = read_results(run(Config(**FEW, limit=12, out=str(tmp_path / "ordered"))).path)
    kept = set(ordered.record.train_items) | set(ordered.record.test_items)
    items = [item for item in DATASET.items() if item.id in kept]
    random.Random(0).shuffle(items)
    permuted = Dataset(items=lambda _=None: tuple(items), scene=DATASET.scene)
    real = study_module.plugin
    monkeypatch.setattr(
        study_module,
        "plugin",
        lambda kind, name: permuted if kind == "dataset" else real(kind, name),
    )
    other = read_results(run(Config(**FEW, out=str(tmp_path / "permuted"))).path)
    assert largest_difference(ordered, other) <= 1e-6


@pytest.mark.slow
def test_a_run_killed_five_times_ends_with_the_same_bits(
    small_run: Results, small_config: dict[str, object], tmp_path: Path
) -> None:
    layers = ",".join(small_config["layers"])
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "--out",
        str(tmp_path / "run"),
        "--layers",
        layers,
    ]
    for name in ("limit", "sampler_steps", "threads", "shard"):
        command += [f"--{name.replace('_', '-')}", str(small_config[name])]
    moments = random.Random(7)
    killed = 0
    while killed < 5:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moments.uniform(3.0, 9.0))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    again = read_results(tmp_path / "run")
    assert killed >= 2
    for name, table in scores(small_run).items():
        assert np.array_equal(table, again.tasks[name].scores, equal_nan=True)


def test_a_finished_run_is_not_run_again(
    small_run: Results, small_config: dict[str, object]
) -> None:
    before = (small_run.path / "run.json").stat().st_mtime_ns
    run(Config(**small_config, out=str(small_run.path)))
    assert (small_run.path / "run.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused_in_words(
    small_run: Results, small_config: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=r"differs in: items\)"):
        run(Config(**(small_config | {"limit": 48}), out=str(small_run.path)))


@pytest.mark.slow
def test_a_damaged_shard_is_made_again_and_the_rest_is_kept(
    small_run: Results,
    small_config: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = Config(**small_config, out=str(tmp_path / "run"))
    run(config, part_of("1/1"))
    shards = sorted((tmp_path / "run" / "shards").rglob("*.safetensors"))
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(ExtractError, match="damaged"):
        run(config, Merger())
    before = {path: path.stat().st_mtime_ns for path in shards}
    capsys.readouterr()
    run(config, part_of("1/1"))
    assert [path for path in shards if path.stat().st_mtime_ns != before[path]] == shards[:1]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "bench: " in line]
    assert f"{shards[0]} is damaged" in said
    for name, table in scores(read_results(run(config, Merger()).path)).items():
        assert np.array_equal(table, small_run.tasks[name].scores, equal_nan=True)


@pytest.mark.slow
def test_a_run_stopped_while_it_solves_goes_on_and_makes_damaged_probes_again(
    small_run: Results,
    small_config: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = Config(**small_config, out=str(tmp_path / "run"))
    write = Shards.write

    def probes() -> dict[str, int]:
        return {
            path.name: path.stat().st_mtime_ns
            for stage in ("draft", "final")
            for path in (tmp_path / "run" / "shards").rglob(f"{stage}-*.safetensors")
        }

    def stopped_at(stop: str) -> list[str]:
        def stopping(shards: Shards, name: str, tensors: dict[str, torch.Tensor]) -> None:
            if name == stop:
                raise KeyboardInterrupt
            write(shards, name, tensors)

        with monkeypatch.context() as patch:
            patch.setattr(Shards, "write", stopping)
            with pytest.raises(KeyboardInterrupt):
                run(config)
        return sorted(name.removesuffix(".safetensors") for name in probes())

    assert stopped_at("draft-0001") == ["draft-0000"]
    drafts = [name for name in stopped_at("final-0002") if name.startswith("draft")]
    kept = probes()
    assert sorted(kept) == [f"{name}.safetensors" for name in (*drafts, "final-0000", "final-0001")]
    damaged = {"draft-0000.safetensors", "final-0001.safetensors"}
    for path in (tmp_path / "run" / "shards").rglob("*.safetensors"):
        if path.name in damaged:
            path.write_bytes(path.read_bytes()[:-9] + b"\xff" + path.read_bytes()[-8:])
    after: dict[str, int] = {}
    with monkeypatch.context() as patch:
        experiment = importlib.import_module("bench.run")
        patch.setattr(experiment, "clean", lambda *_: after.update(probes()))
        again = read_results(run(config).path)
    assert {name for name in kept if after[name] != kept[name]} == damaged
    for name, table in scores(again).items():
        assert np.array_equal(table, small_run.tasks[name].scores, equal_nan=True)


def test_rendered_images_and_a_third_task_run(tmp_path: Path) -> None:
    config = Config(
        **FEW,
        limit=24,
        source="rendered",
        tasks=("normals", "saliency"),
        out=str(tmp_path / "run"),
    )
    results = read_results(run(config).path)
    assert results.tasks["normals"].metrics[0] == "cosine"
    assert results.random_networks == ()
    assert np.isfinite(results.tasks["normals"].scores).all()


def test_two_runs_do_not_share_a_folder(small_config: dict[str, object], tmp_path: Path) -> None:
    from bench.runs.folder import open_folder
    from bench.study import open_study

    config = Config(**small_config, out=str(tmp_path / "run"))
    folder = open_folder(tmp_path / "run", open_study(config))
    with folder.locked(), pytest.raises(UserError, match="another run is writing"):
        run(config)


def test_groups_hold_at_least_the_asked_items() -> None:
    blocks = blocks_of(DATASET.items(), "test")
    groups = grouped(blocks, 24)
    assert [block for group in groups for block in group] == list(blocks)
    assert all(sum(len(block.items) for block in group) >= 24 for group in groups[:-1])


def test_limit_changes_the_fingerprint_and_threads_do_not(small_config: dict[str, object]) -> None:
    config = Config(**small_config)
    print_of = [
        study_module.open_study(c).fingerprint
        for c in (config, replace(config, limit=60), replace(config, threads=2))
    ]
    assert print_of[0] != print_of[1]
    assert print_of[0] == print_of[2]
