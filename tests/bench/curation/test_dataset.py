"""``python -m bench dataset``: make a set, choose from it, audit it, compare two labelers."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.__main__ import main
from bench.curation.agreement import agreement_of
from bench.curation.contact_sheets import COLUMNS, GAP, TEXT, TILE
from bench.curation.make import images_in
from bench.registry import plugin
from datasets.label_cache import labels_of
from datasets.labelers.tiny import LABELER
from datasets.labels import DisparityScale, Labels, exact_labels
from datasets.prompts import read_prompts
from datasets.raycast import render
from datasets.render import scenes_of
from probes.bootstrap import Score

LINES = [
    ["id", "prompt", "seed", "split"],
    ["a", "a red sphere, on a sand floor with a blue wall and light from the left", "1", "train"],
    ["b", "a cyan box on a snow floor with a pink wall and light from the right", "2", "train"],
    ["c", "an orange cone on a stone floor with a mint wall and light from the left", "3", "test"],
]
QUICKLY = ["--sampler-steps", "2", "--threads", "1", "--engine", "torch_eager"]


def listed(path: Path, lines: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    return path


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listed(tmp_path_factory.mktemp("prompts") / "mine.csv", LINES)


@pytest.fixture(scope="module")
def made(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "made"
    assert main(["dataset", "make", "--prompts", str(prompts), "--out", str(out), *QUICKLY]) == 0
    return out


def again(made: Path, prompts: Path) -> dict[str, tuple[bytes, int]]:
    """Run the same command; what the images hold, and when they were written."""
    assert main(["dataset", "make", "--prompts", str(prompts), "--out", str(made), *QUICKLY]) == 0
    return {
        file.stem: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in (made / "images").iterdir()
    }


def test_a_generated_set_has_an_image_labels_and_a_line_per_item(made: Path, prompts: Path) -> None:
    assert read_prompts(made / "kept.csv") == read_prompts(prompts)
    assert images_in(made).shape == (3, 3, 64, 64)
    with Image.open(made / "contact-001.png") as sheet:
        assert sheet.size == (COLUMNS * (2 * TILE + GAP) + GAP, TILE + TEXT + 2 * GAP)
        assert np.asarray(sheet.convert("L")).std() > 10


def test_labels_are_the_labelers_of_the_images(made: Path) -> None:
    """The stored labels are of the images before they were rounded to 8 bits."""
    stored = labels_of((made / "labels" / "a.safetensors").read_bytes())
    expected = LABELER.open()(images_in(made)[:1].float() / 255)
    assert float((stored.disparity - expected.disparity).abs().max()) < 0.2
    assert float((stored.saliency == expected.saliency).double().mean()) > 0.95


def test_a_generated_set_goes_on_where_it_stopped(made: Path, prompts: Path) -> None:
    before = again(made, prompts)
    assert again(made, prompts) == before
    (made / "images" / "a.png").unlink()
    damaged = made / "labels" / "b.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-7])
    after = again(made, prompts)
    assert {name for name in after if after[name][1] != before[name][1]} == {"a", "b"}
    assert all(after[name][0] == before[name][0] for name in before)


def test_a_deleted_line_stays_deleted(
    made: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (made / "kept.csv").read_text(encoding="utf-8")
    (made / "kept.csv").write_text("".join(whole.splitlines(keepends=True)[:-1]), encoding="utf-8")
    again(made, prompts)
    assert "is left as it is" in capsys.readouterr().out
    kept = read_prompts(made / "kept.csv")
    assert [item.id for item in kept] == ["a", "b"]
    assert kept == read_prompts(prompts)[:2]
    (made / "kept.csv").unlink()
    again(made, prompts)
    assert (made / "kept.csv").read_text(encoding="utf-8") == whole


def test_a_changed_prompt_is_generated_anew(made: Path, prompts: Path, tmp_path: Path) -> None:
    before = again(made, prompts)
    changed = listed(
        tmp_path / "mine.csv", [LINES[0], ["a", LINES[1][1], "99", "train"], *LINES[2:]]
    )
    after = again(made, changed)
    assert {name for name in after if after[name][0] != before[name][0]} == {"a"}
    assert {name: stored for name, (stored, _) in again(made, prompts).items()} == {
        name: stored for name, (stored, _) in before.items()
    }


def test_the_printed_scale_is_that_of_the_training_images(
    made: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again(made, prompts)
    mean, std = map(
        float, re.search(r"--depth-scale (\S+),(\S+)", capsys.readouterr().out).groups()
    )
    scale = LABELER.open().scale
    raw = [
        labels_of((made / "labels" / f"{name}.safetensors").read_bytes()).disparity.double()
        * scale.std
        + scale.mean
        for name in ("a", "b")
    ]
    values = torch.cat(raw).numpy()
    assert mean == pytest.approx(values.mean(), rel=1e-4)
    assert std == pytest.approx(values.std(), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sampler-steps", "3"], "it differs in: sampler_steps"),
        (["--batch", "3"], "it differs in: batch"),
        (
            ["--depth-model", "x/y"],
            "the labeler tiny takes no other networks; leave --depth-model out",
        ),
        (["--fetch"], "leave --prompts and --fetch out"),
        (["--limit", "0"], "limit must be a whole number of at least 2"),
        (["--dataset", "scenes617"], "is drawn, not read from"),
        (["--labeler", "midas"], "--saliency-model"),
        (["--saliency-size", "0", "--labeler", "midas"], "saliency_size must be a whole number"),
        (["--depth-scale", "1,0", "--labeler", "midas"], "a standard deviation above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    made: Path,
    prompts: Path,
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["dataset", "make", "--prompts", str(prompts), "--out", str(made), *QUICKLY]
    assert main([*command, *arguments]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    assert sentence in printed[0]


def test_another_configuration_of_the_model_is_refused(
    made: Path,
    prompts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bench.curation.make.configuration_hashes", lambda _: {"vae": "another"})
    command = ["dataset", "make", "--prompts", str(prompts), "--out", str(made), *QUICKLY]
    assert main(command) == 2
    assert "it differs in: configuration" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("all I have")
    assert (
        main(["dataset", "make", "--prompts", str(prompts), "--out", str(tmp_path), *QUICKLY]) == 2
    )
    assert "is not empty and holds no generated set" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_audit_finds_what_crosses_the_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = listed(
        tmp_path / "mine.csv",
        [
            LINES[0],
            ["a", "a large green cylinder on the old wooden table", "1", "train"],
            ["b", "A large green cylinder  on the old wooden table", "2", "test"],
            ["c", "two dogs that play in the snow at night", "3", "train"],
            ["d", "two dogs that played in the snow at night", "3", "test"],
            ["e", "nothing of the kind", "4", "test"],
        ],
    )
    assert main(["dataset", "audit", "--dataset", str(file)]) == 1
    printed = capsys.readouterr().out
    assert "5 items, 2 training and 3 test" in printed
    assert "equal prompts: 2 items in 1 groups, 1 of them across the split" in printed
    assert "equal seeds: 2 items in 1 groups, 1 of them across the split" in printed
    assert "nearly equal prompts across the split: 1 pairs" in printed
    assert "also a training item's: 2 of 3" in printed


def test_the_audit_is_content_with_a_clean_set(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "audit", "--dataset", str(prompts)]) == 0
    assert "also a training item's: 0 of 1" in capsys.readouterr().out
    assert main(["dataset", "audit", "--dataset", str(prompts), "--threshold", "2"]) == 2


def test_a_labeler_agrees_with_itself_and_less_with_the_exact_labels() -> None:
    rendered = render(scenes_of("held-out", 8), 64)
    reader = LABELER.open()
    exact = exact_labels(rendered, reader.scale)

    class Exact:
        scale = DisparityScale(reader.scale.mean, reader.scale.std)
        fingerprint = "exact"

        def __call__(self, _: torch.Tensor) -> Labels:
            return exact

    images = (rendered.rgb * 255).round().to(torch.uint8)
    tasks = {name: plugin("task", name) for name in ("saliency", "depth")}

    def agreement(labeler: Any) -> dict[str, Score]:
        scores = agreement_of(labeler, reader, images, tasks)
        return {metric: score for (_, metric), score in scores.items()}

    same = agreement(reader)
    assert same["dice"].mean == same["dice"].low == 1
    assert same["rmse"].mean == pytest.approx(0, abs=1e-9)
    assert same["spearman"].mean == pytest.approx(1)
    labels = reader(images.float() / 255)
    other = agreement(Exact())
    a, b = labels.saliency.double(), exact.saliency.double()
    dice = (2 * (a * b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2)))).mean()
    rmse = (
        (labels.disparity.double() - exact.disparity.double()).square().mean((1, 2)).sqrt().mean()
    )
    assert other["dice"].mean == pytest.approx(float(dice), rel=1e-9)
    assert other["rmse"].mean == pytest.approx(float(rmse), rel=1e-6)
    assert other["dice"].low <= other["dice"].mean <= other["dice"].high < 1


def test_agreement_is_printed_for_two_labelers(
    made: Path,
    save_dpt: Callable[..., Path],
    save_saliency: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    depth, mask = str(save_dpt(tmp_path / "dpt")), str(save_saliency(tmp_path / "mask.onnx", 64))
    networks = [
        *("--depth-model", depth, "--depth-scale", "0,1"),
        *("--saliency-model", mask, "--saliency-size", "64"),
    ]
    command = ["dataset", "agreement", "--images", str(made)]
    assert main([*command, "--labelers", "tiny,midas", *networks]) == 0
    printed = capsys.readouterr().out
    assert "midas scored against tiny on 3 images" in printed
    for metric in ("dice", "rmse", "rmse_aligned", "spearman", "pearson"):
        assert re.search(rf"^\w+ +{metric} +\S+ +\[", printed, re.MULTILINE)
    assert main([*command, "--labelers", "tiny"]) == 2
    assert "agreement is between two labelers" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path / "dpt"), "--labelers", "tiny,midas", *networks]) == 2
    assert "holds no PNG image" in capsys.readouterr().err


def test_the_audit_names_prompts_that_a_model_takes_for_one_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "a red sphere on a sand floor with a blue wall and light from the left " * 2
    ends = ["cat", "a very large dog with spots", "snow"]
    rows = [[f"t{n}", head + end, "7", "test" if n else "train"] for n, end in enumerate(ends)]
    file = listed(tmp_path / "long.csv", [LINES[0], *rows])
    command = ["dataset", "audit", "--dataset", str(file), "--threshold", "1"]
    assert main(command) == 0
    assert "longer than" not in capsys.readouterr().out
    assert main([*command, "--model", "tiny"]) == 1
    printed = capsys.readouterr().out
    assert "3 of 3 prompts are longer than the 24 tokens" in printed
    assert "(t0, t1, t2); 2 of them are test items" in printed
    assert main(["dataset", "audit", "--dataset", "scenes617", "--model", "tiny"]) == 1
    assert "every prompt fits into the 24 tokens of tiny" in capsys.readouterr().out
