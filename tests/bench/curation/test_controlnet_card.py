"""The measure of a ControlNet: which scene the samples agree with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.curation import controlnet_card
from bench.curation.controlnet_card import print_controlnet_card
from bench.errors import UserError
from datasets.render import rendered, scenes_of
from engines.training.conditions import CONDITIONS
from engines.training.controlnet import ControlledUNet, write_controlnet

LIMIT = 4


def table(text: str) -> dict[str, list[float]]:
    """Row -> means of its four columns."""
    rows = {}
    for line in text.splitlines()[2:5]:
        name = line[: line.index("  ")]
        rows[name] = [float(cell.split()[0]) for cell in line[len(name) :].split("]")[:-1]]
    return rows


@pytest.mark.parametrize("kind", sorted(CONDITIONS))
def test_samples_that_follow_the_condition_agree_with_the_scene_that_is_shown(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    condition = CONDITIONS[kind]
    (chunk,) = rendered(scenes_of("held-out", LIMIT))
    conditions = condition.images_of(chunk.mask if kind == "mask" else chunk.disparity)

    def follow(_pipeline: Any, prompts: Sequence[str], shown: Tensor, scale: float) -> Tensor:
        assert list(prompts) == [attributes.prompt for attributes in chunk.attributes]
        if not scale:
            return torch.full((LIMIT, 3, 64, 64), 0.5)
        matches = (shown[:, None] == conditions[None]).flatten(2).all(2)
        return chunk.rgb[matches.long().argmax(1)]

    monkeypatch.setattr(controlnet_card, "_open", lambda *_: (condition, None))
    monkeypatch.setattr(controlnet_card, "_samples", follow)
    print_controlnet_card(Path("followed"), LIMIT)
    rows = table(capsys.readouterr().out)
    dice, rmse, other_dice, other_rmse = rows["the scene's own"]
    assert dice > 0.9
    assert dice > other_dice + 0.3
    assert rmse < 0.7 * other_rmse
    assert rows["another scene's"][2:] == [dice, rmse]
    assert rows["none"][0] < 0.5


def test_an_untrained_controlnet_changes_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(controlnet_card, "STEPS", 1)
    write_controlnet(ControlledUNet().controlnet, tmp_path / "controlnet")
    record = json.dumps({"recipe": "controlnet-depth"})
    (tmp_path / "controlnet" / "training.json").write_text(record, encoding="utf-8")
    print_controlnet_card(tmp_path / "controlnet", 2)
    printed = capsys.readouterr().out
    rows = table(printed)
    assert rows["none"] == rows["the scene's own"] == rows["another scene's"]
    assert "controlnet on 2 held-out scenes" in printed


@pytest.mark.parametrize("record", [None, "{}", '{"recipe": "unet-noise"}', "[]", '{"recipe": 3}'])
def test_a_folder_of_another_kind_is_refused(record: str | None, tmp_path: Path) -> None:
    if record is not None:
        (tmp_path / "training.json").write_text(record, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"is no ControlNet of python -m engines\.training\.controlnet"
    ):
        print_controlnet_card(tmp_path, 2)


def test_one_scene_has_no_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 2"):
        print_controlnet_card(tmp_path, 1)
