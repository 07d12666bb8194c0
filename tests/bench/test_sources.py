"""Where items and labelers come from, as options name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from bench.config import Config
from bench.labeling import reader_of
from bench.runs.folder import default_out
from bench.study import dataset_of, open_study
from datasets.items import Dataset, Item
from datasets.labeler import Labeler, Reader, Sources
from datasets.prompts import read_prompts
from datasets.sets import scenes617


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.csv"
    path.write_text(
        "prompt\n" + "".join(f"a cup of the number {n}\n" for n in range(60)), encoding="utf-8"
    )
    return path


def test_a_csv_file_is_a_dataset(csv_file: Path) -> None:
    items = read_prompts(csv_file)
    config = Config(dataset=str(csv_file))
    assert dataset_of(config)[1] == items
    study = open_study(config)
    assert {item for block in (*study.train, *study.test) for item in block.items} == set(items)
    assert default_out(study).parent == Path("runs")
    assert default_out(study).name.startswith("tiny-prompts-")


def test_a_downloaded_dataset_lies_in_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = (Item("a", "a cup", 1, "train"),)
    asked = []

    def fetch(below: Path) -> Path:
        asked.append(below)
        return below / "there"

    def read(folder: Path | None = None) -> tuple[Item, ...]:
        asked.append(folder)
        return items

    monkeypatch.setattr(scenes617, "DATASET", Dataset(items=read, fetch=fetch))
    assert dataset_of(Config())[1] == items
    assert dataset_of(Config(fetch=True))[1] == items
    # What lies in a named folder is not downloaded.
    assert dataset_of(Config(fetch=True, prompts=str(tmp_path)))[1] == items
    assert asked == [None, cache, cache / "there", tmp_path]


def test_options_name_the_networks_of_a_labeler(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets.labelers import midas, tiny

    asked: list[Sources] = []

    def opened(sources: Sources) -> object:
        asked.append(sources)
        return tiny.LABELER.open()

    monkeypatch.setattr(midas, "LABELER", Labeler(open=opened, takes_networks=True))
    mask = tmp_path / "mask.onnx"
    reader_of(
        Config(depth_model="x/y", depth_scale=(1, 2), saliency_model=str(mask), saliency_size=64),
        "midas",
    )
    (sources,) = asked
    assert (sources.depth_model, sources.saliency_model, sources.saliency_size) == ("x/y", mask, 64)
    assert sources.depth_scale is not None
    assert (sources.depth_scale.mean, sources.depth_scale.std) == (1.0, 2.0)
    assert sources.cache == cache


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dataset", "nowhere.csv"], "cannot read the prompts nowhere.csv"),
        (
            ["--dataset", "paper617"],
            "name their folder with --prompts, or download them with --fetch",
        ),
        (
            ["--dataset", "paper617", "--prompts", "/nowhere"],
            "cannot read /nowhere/train_split_prompts_seeds.csv",
        ),
        (["--prompts", "/nowhere"], "the dataset scenes617 is drawn, not read from /nowhere"),
        (["--fetch"], "dataset scenes617 has nothing to download"),
        (
            ["--saliency-model", "mask.onnx"],
            "the labeler tiny takes no other networks; leave --saliency-model out",
        ),
        (["--labeler", "midas"], "needs a salient-object network"),
        (["--depth-scale", "1,2,3"], "depth_scale must be a mean and a standard deviation"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]


@pytest.mark.parametrize("source", ["owner/model", None], ids=["hub id", "folder"])
def test_images_of_a_model_that_names_no_labeler_need_one(
    source: str | None,
    small_models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = source or str(small_models["sd2"])
    for command in ("run", "plan"):
        assert main([command, "--model", model, "--limit", "24"]) == 2
        said = capsys.readouterr().err
        assert f"say with --labeler what labels the images of {model}" in said
        assert "midas: Photographs" in said
        assert (
            "--saliency-model names; tiny: The shipped labeler, trained on rendered scenes" in said
        )
    assert (
        main(["dataset", "make", "--model", model, "--limit", "24", "--out", str(tmp_path / "set")])
        == 2
    )
    assert "say with --labeler" in capsys.readouterr().err


def test_models_without_a_labeler_open_where_no_image_is_labeled(
    small_models: dict[str, Path],
) -> None:
    config = Config(model=str(small_models["sd2"]), limit=24, engine="torch_eager")
    assert open_study(config, labels=False).reader.fingerprint == "brightness"
    assert open_study(replace(config, source="rendered")).facts["labeler"] == "tiny"
    assert open_study(Config(limit=24), labels=False).facts["labeler"] == "tiny"


def test_a_labeler_is_opened_with_the_threads_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from datasets.labelers import tiny

    threads_used: list[int] = []
    reader = tiny.LABELER.open()

    def opened(_: Sources) -> Reader:
        threads_used.append(torch.get_num_threads())
        return reader

    monkeypatch.setattr(tiny, "LABELER", Labeler(open=opened))
    before = torch.get_num_threads()
    for threads in (3, None):
        reader_of(Config(threads=threads), "tiny")
    assert threads_used == [3, before]
    assert torch.get_num_threads() == before


def test_quick_in_a_file_is_true_or_false(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text("quick = 'no'\n")
    assert main(["run", "--config", str(file)]) == 2
    assert "quick must be true or false, not 'no'" in capsys.readouterr().err
