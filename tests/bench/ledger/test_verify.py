"""Entries of a small run: they are confirmed, and every change of them is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.errors import UserError
from bench.ledger import verify as verification
from bench.ledger.entries import (
    read_arrays,
    read_entry,
    write_arrays,
)
from bench.ledger.layers import layer_letters
from bench.ledger.submit import public_name, submit
from bench.ledger.verify import verify
from bench.runs.results import Results
from bench.study import Study
from datasets.atomic_write import write_csv
from tests.bench.ledger.changes import change_score, seal


def test_an_entry_is_small_and_has_what_a_check_needs(entry: Path, small_run: Results) -> None:
    assert sum(path.stat().st_size for path in entry.iterdir()) < 100_000
    record = read_entry(entry).record
    assert record.fingerprint == small_run.fingerprint
    assert [item.id for item in record.items] == list(small_run.record.test_items)
    assert len(record.sampler.sigmas) == len(record.sampler.log_snr) == 4
    assert record.sampler.log_snr == tuple(sorted(record.sampler.log_snr))
    assert set(record.layers) == set(small_run.layers)
    text = (entry / "entry.json").read_text(encoding="utf-8")
    assert str(small_run.path) not in text


def test_its_scores_are_those_of_the_run(entry: Path, small_run: Results) -> None:
    read = read_entry(entry)
    for name, task in small_run.tasks.items():
        last = task.best(network="trained", step=3, probe="activations")
        cell, scores = read.at(name, 4)
        assert cell.layer == last.layer
        np.testing.assert_array_equal(scores, task.score(last).astype(np.float32))
        assert cell.mean == pytest.approx(np.mean(task.score(last)), abs=1e-6)


def test_an_entry_is_confirmed_to_the_bit(entry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(entry), "--items", "8", "--seed", "0"]) == 0
    said = capsys.readouterr().out
    assert "scores are equal to the bit, largest difference 0.0e+00" in said
    assert said.strip().endswith(": confirmed")


def test_a_changed_score_is_named_with_item_cell_and_both_numbers(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_score(copied, 17, 0.05)
    read = read_entry(copied)
    item, cell = read.record.items[17].id, read.record.tasks["depth"].cells[2]
    assert main(["verify", str(copied), "--items", "1", "--seed", "0"]) == 1
    said = capsys.readouterr().out
    assert "scores.npz is not the file that was submitted" in said
    changed = float(read.scores["depth"][2, 17])
    (line,) = [line for line in said.splitlines() if line.startswith(f"item {item}, depth, ")]
    assert cell.words in line
    assert f"{changed:.7g}" in line
    generated = float(line.rsplit(" ", 1)[1])
    assert generated == pytest.approx(changed - 0.05, abs=1e-6)
    assert said.strip().endswith(": not confirmed")


def test_a_forged_score_is_found_where_its_item_is_drawn(copied: Path, study: Study) -> None:
    (block,) = verification._chosen(study, 1, (), 0)
    ids = [item.id for item in read_entry(copied).record.items]
    forged = block.items[-1].id
    change_score(copied, ids.index(forged), 0.05)
    seal(copied)
    result = verify(read_entry(copied), 1, {}, seed=0)
    (fault,) = result.faults
    assert (fault.item, fault.task) == (forged, "depth")
    assert fault.stored - fault.generated == pytest.approx(0.05, abs=1e-6)
    # Its mean was not forged.
    assert any("entry.json has the mean" in sentence for sentence in result.inconsistent)


def test_a_changed_mean_is_found_without_generating(copied: Path) -> None:
    document = json.loads((copied / "entry.json").read_text(encoding="utf-8"))
    document["tasks"]["saliency"]["cells"][0]["mean"] += 0.01
    (copied / "entry.json").write_text(json.dumps(document), encoding="utf-8")
    result = verify(read_entry(copied), 1, {}, seed=0)
    assert not result.passed
    of_file, sentence = result.inconsistent
    assert of_file == "entry.json is not the file that was submitted (its checksum differs)"
    assert sentence.startswith("saliency, trained ")


def test_a_changed_probe_is_found(copied: Path) -> None:
    probes = read_arrays(copied / "probes.npz")
    probes["depth/0/weights"] *= 1.5
    write_arrays(copied / "probes.npz", probes)
    result = verify(read_entry(copied), 1, {}, seed=0)
    assert {(fault.task, fault.cell.words) for fault in result.faults} == {
        ("depth", read_entry(copied).record.tasks["depth"].cells[0].words)
    }


def test_another_engine_agrees_within_the_tolerance(
    entry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--items", "1", "--seed", "0", "--engine", "torch_eager"]
    assert main(["verify", str(entry), *arguments]) == 0
    said = capsys.readouterr().out
    assert "within 0.001 (engine: torch_eager here, onnxruntime there)" in said


def test_a_score_beyond_the_tolerance_fails_elsewhere(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_unlike", lambda *_: "another machine")
    change_score(copied, 17, 0.0008)
    assert not verify(read_entry(copied), 1, {}, seed=0).faults
    change_score(copied, 17, 0.0008)
    assert len(verify(read_entry(copied), 1, {}, seed=0).faults) == 1


def test_items_are_drawn_anew_by_default(
    entry: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_compared", lambda *_: iter(()))
    monkeypatch.setattr(verification, "disagreements", lambda _: ([], []))
    monkeypatch.setattr(verification, "open_study", lambda _: study)
    read = read_entry(entry)
    drawn = {verify(read, 1, {}).items for _ in range(20)}
    assert len(drawn) > 1
    assert len({verify(read, 1, {}, seed=3).items for _ in range(3)}) == 1


def test_other_weights_are_refused(
    entry: Path, small_models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(entry), "--model", str(small_models["sd2"])]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the model here is not the entry's" in line
    assert "give its folder with --model" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["verify", "/nowhere"], "/nowhere is no entry of a ledger"),
        (["verify", "/nowhere", "--items", "0"], "--items must be at least 1, not 0"),
        (["verify", "/nowhere", "--seed", "-1"], "--seed must be at least 0, not -1"),
        (["submit", "/nowhere"], "/nowhere is no run folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line


@pytest.mark.parametrize("name", ["scores.npz", "probes.npz"])
def test_a_damaged_file_is_one_sentence(
    name: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / name).write_bytes(b"nothing")
    assert main(["verify", str(copied)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{name} cannot be read" in line


def test_runs_that_cannot_be_claimed_are_refused(small_run: Results, tmp_path: Path) -> None:
    untrained = replace(small_run, config=replace(small_run.config, weights="random"))
    with pytest.raises(UserError, match="a run of random weights"):
        submit(untrained, tmp_path)
    record = small_run.record.model_copy(update={"conditions": {}})
    with pytest.raises(UserError, match="made by an earlier version"):
        submit(replace(small_run, record=record), tmp_path)
    facts = dict(small_run.facts) | {"weights of the model": "others"}
    with pytest.raises(UserError, match="made with other weights"):
        submit(replace(small_run, facts=facts), tmp_path)


def test_the_same_run_is_submitted_twice_only_with_the_same_scores(
    small_run: Results, tmp_path: Path
) -> None:
    folder = submit(small_run, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert submit(small_run, tmp_path) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    change_score(folder, 3, 0.1)
    with pytest.raises(UserError, match="the same run with other scores"):
        submit(small_run, tmp_path)


def test_a_damaged_entry_says_how_to_replace_it(small_run: Results, tmp_path: Path) -> None:
    folder = submit(small_run, tmp_path)
    (folder / "scores.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"damaged scores.npz; delete that folder, then submit"):
        submit(small_run, tmp_path)


def test_a_run_with_other_noise_levels_than_are_here_is_refused(
    small_run: Results, tmp_path: Path
) -> None:
    record = small_run.record.model_copy(
        update={"sigmas": tuple(2 * sigma for sigma in small_run.record.sigmas)}
    )
    with pytest.raises(UserError, match=r"other noise levels than .* has now"):
        submit(replace(small_run, record=record), tmp_path)


def test_a_model_folder_is_named_by_its_last_part(
    small_run: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    for name in (".", "../mine", str(tmp_path / "mine")):
        assert public_name(name) == "mine"
    assert public_name("someone/model") == "someone/model"


def test_a_model_that_is_not_shipped_is_asked_for(copied: Path) -> None:
    path = copied / "entry.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["options"]["model"] = "mine"
    path.write_text(json.dumps(stored), encoding="utf-8")
    seal(copied)
    with pytest.raises(UserError, match="the entry's model 'mine' is not shipped; give its folder"):
        verify(read_entry(copied), 1, {}, seed=0)


def test_an_entry_of_a_file_of_prompts_is_checked_with_that_file(
    entry: Path, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [item for block in (*study.train, *study.test) for item in block.items]
    file = tmp_path / "mine.csv"
    columns = ["id", "split", "seed", "prompt"]
    write_csv(file, columns, [{name: getattr(item, name) for name in columns} for item in items])
    arguments = ["verify", str(entry), "--dataset", str(file), "--items", "1", "--threads", "1"]
    assert main(arguments) == 0
    assert "confirmed" in capsys.readouterr().out
    write_csv(file, columns, [{n: getattr(i, n) for n in columns} | {"seed": 7} for i in items])
    assert main(arguments) == 2
    assert "give the entry's file of prompts with --dataset" in capsys.readouterr().err


def test_a_ledger_that_cannot_be_written_is_one_sentence(small_run: Results) -> None:
    with pytest.raises(UserError, match="cannot write the entry /proc/ledger"):
        submit(small_run, Path("/proc/ledger"))


def test_layers_are_tied_where_they_do_not_differ(entry: Path) -> None:
    read = read_entry(entry)
    found = layer_letters(read)
    assert set(found) == set(read.record.tasks)
    for name, by_layer in found.items():
        task = read.record.tasks[name]
        assert set(by_layer) == set(read.record.layers)
        means = {
            cell.layer: cell.mean
            for cell in task.cells
            if (cell.network, cell.step, cell.probe) == ("trained", 4, "activations")
        }
        best = (max if task.higher_is_better else min)(means, key=means.get)
        assert "a" in by_layer[best].split()
