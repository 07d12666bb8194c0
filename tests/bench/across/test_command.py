"""The command on two small runs: its files, its repetition, and its refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import save

from bench.__main__ import main
from bench.across import readings
from bench.config import Config
from bench.run import run
from bench.runs.results import read_results
from extract.networks import TRAINED

LAYERS = {"tiny": "mid", "mmdit_flow_0": "block3"}
TASKS = ("saliency", "depth", "colour")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of the shipped model, and one of a transformer on some of its items."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        str(
            run(
                Config(
                    model=model,
                    limit=limit,
                    sampler_steps=3,
                    layers=(layer,),
                    tasks=TASKS,
                    random_networks=0,
                    threads=1,
                    engine="torch_eager",
                    out=str(folder / model),
                )
            ).path
        )
        for (model, layer), limit in zip(LAYERS.items(), (16, 13), strict=True)
    ]


@pytest.fixture(scope="module")
def out(two: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("across")
    assert main(["across", *two, "--out", str(folder), "--items", "5", "--threads", "1"]) == 0
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_table_is_written_in_three_forms(out: Path, two: list[str]) -> None:
    document = json.loads((out / "across.json").read_text(encoding="utf-8"))
    for name in ("models", "scores", "differences", "onsets", "agreement", "transfer", "shared"):
        assert len(rows_of(out / f"{name}.csv")) == len(document[name]) > 0
    text = (out / "across.md").read_text(encoding="utf-8")
    assert f"python -m bench across {two[0]} {two[1]} --items 5" in text
    assert "| `mmdit_flow_0` | MMDiT" in text
    assert "| guidance" in text
    assert {row["guidance"] for row in rows_of(out / "models.csv")} >= {"3.0"}
    assert "tiny was probed in mid alone, and its best layer is the best of these" in text
    assert "tiny (this one network) minus mmdit_flow_0 (this one network)" in text
    assert "## Same noise, other model" in text
    for name in ("across.png", "scenes.png"):
        assert (out / name).stat().st_size > 5000


def test_only_shared_items_count(out: Path, two: list[str]) -> None:
    tests = [read_results(Path(path)).record.test_items for path in two]
    shared = sum(item in tests[1] for item in tests[0])
    assert {row["shared_items"] for row in rows_of(out / "models.csv")} == {str(shared)}
    assert shared < len(tests[0])


def test_the_images_generated_again_are_those_of_the_run(out: Path, two: list[str]) -> None:
    """So a reader's score on its own labels is the one that the run has."""
    results = read_results(Path(two[0]))
    task = results.tasks["saliency"]
    items = [results.record.test_items.index(x) for x in results.record.test_items[:5]]
    for row in rows_of(out / "transfer.csv"):
        key = (row["reader"], row["task"], row["read_from"])
        if key == ("tiny", "saliency", TRAINED):
            cell = task.best(
                network=TRAINED, step=int(row["step"]) - 1, probe="activations+position"
            )
            assert cell is not None
            expected = task.score(cell)[items].mean()
            assert float(row["own"]) == pytest.approx(expected, abs=1e-5)


def test_a_second_call_generates_nothing(
    out: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(readings, "reopened", never)
    before = (out / "transfer.csv").read_bytes()
    typed = ["across", *two, "--out", str(out), "--items", "5", "--threads", "1"]
    assert main(typed) == 0
    assert (out / "transfer.csv").read_bytes() == before


def test_a_damaged_reading_is_made_again(
    out: Path, two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(copytree(out, tmp_path / "out"))
    (path,) = (copy / "readings").glob("tiny-*/*")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], save({"others": torch.zeros(2)})):
        path.write_bytes(damaged)
        assert main(["across", *two, "--out", str(copy), "--items", "5", "--threads", "1"]) == 0
        assert (copy / "transfer.csv").read_bytes() == (out / "transfer.csv").read_bytes()
        # Keys of the header are in no fixed order.
        assert len(path.read_bytes()) == len(whole)


def test_an_interruption_loses_one_block(
    out: Path, two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "BLOCK", 2)
    block, generated = readings._Reader.block, []

    def stopped(reader: readings._Reader, start: int) -> dict[str, torch.Tensor]:
        if len(generated) == 2:
            raise KeyboardInterrupt
        generated.append(start)
        return block(reader, start)

    monkeypatch.setattr(readings._Reader, "block", stopped)
    typed = ["across", *two, "--out", str(tmp_path), "--items", "5", "--threads", "1"]
    assert main(typed) == 130
    assert generated == [0, 2]
    assert main(typed) == 130
    assert generated == [0, 2]
    monkeypatch.setattr(readings._Reader, "block", block)
    assert main(typed) == 0
    scores = [
        [float(row["own"]) for row in rows_of(folder / "transfer.csv")]
        for folder in (out, tmp_path)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4, nan_ok=True)


def test_tables_of_an_earlier_call_do_not_stay_beside_others(
    out: Path, two: list[str], tmp_path: Path
) -> None:
    copy = Path(copytree(out, tmp_path / "out"))
    assert main(["across", *two, "--out", str(copy), "--items", "0"]) == 0
    left = {"agreement.csv", "transfer.csv", "shared.csv", "scenes.png"}
    assert {path.name for path in out.iterdir()} - {path.name for path in copy.iterdir()} == left


def test_without_items_nothing_is_generated_and_nothing_is_said_of_it(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["across", *two, "--out", str(tmp_path), "--items", "0", "--tasks", "depth"]
    assert main(typed) == 0
    assert not (tmp_path / "transfer.csv").exists()
    assert "Same noise" not in (tmp_path / "across.md").read_text(encoding="utf-8")
    assert "first step" not in capsys.readouterr().out
    assert {row["task"] for row in rows_of(tmp_path / "scores.csv")} == {"depth"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ONE"], "give the run folders of two or more models"),
        (["ONE", "ONE"], "two of the runs are of the model tiny"),
        (["ONE", "TWO", "--tasks", "light"], "has no task light, only saliency, depth, colour"),
        (["ONE", "TWO", "--items", "500"], "--items 500 is not from 4 to"),
        (["ONE", "TWO", "--log-snr=99"], "not every run has steps on both sides of log-SNR 99"),
        (["ONE", "/proc"], "/proc is no run folder"),
        (["ONE", "TWO", "--items", "0", "--out", "/proc/across"], "cannot write /proc/across"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, two: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"ONE": two[0], "TWO": two[1]}
    assert main(["across", *(places.get(word, word) for word in arguments)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]


def test_tasks_that_are_not_named_are_compared_by_neither_call(
    two: list[str], tmp_path: Path
) -> None:
    typed = ["across", *two, "--out", str(tmp_path), "--items", "5", "--tasks", "saliency"]
    tables = []
    for _ in range(2):
        assert main([*typed, "--threads", "1"]) == 0
        tables.append(rows_of(tmp_path / "agreement.csv"))
    assert tables[0] == tables[1]
    assert {row["task"] for row in tables[0]} == {"saliency"}
