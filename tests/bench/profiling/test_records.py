"""Profile files: what is written is read again, and damage is reported in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from bench.profiling.records import (
    PROFILE,
    SAMPLES,
    STEP,
    LayerSample,
    ModuleWork,
    ParityFacts,
    ScoreChange,
    Term,
    read_profile,
    write_profile,
)
from tests.made_profile import made_profile


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    profile = read_profile(made_profile(tmp_path / "a"))
    change = ScoreChange("depth", "rmse", 32, 2, 1e-3, 2e-3)
    engine = profile.engines["onnxruntime"]
    parity = ParityFacts({"noise": [1e-7]}, [2e-7], 3e-7, [change])
    whole = replace(
        profile,
        peaks={"fp32 cpu": [1e9, 2e9]},
        engines={"onnxruntime": replace(engine, parity=parity, memory=None, coverage=0.9)},
        layers=(LayerSample("onnxruntime", 2, 0, 999.0, "conv_in", "Conv", 1e-3),),
        modules=(ModuleWork("conv_in", 10, 20),),
        authors=[Term("UNet steps", 3, "step", [0.1])],
        solving=[Term("every probe", 1, "run", [2.0])],
    )
    assert read_profile(write_profile(tmp_path / "b", whole).parent) == whole


def test_readings_of_another_engine_or_batch_are_not_mixed(tmp_path: Path) -> None:
    profile = read_profile(made_profile(tmp_path))
    assert profile.rows_of(STEP, "onnxruntime") == (2,)
    assert profile.seconds(STEP, "onnxruntime", 3).size == 0
    for engine in profile.engines:
        stored = [sample.seconds for sample in profile.samples if sample.engine == engine]
        assert np.array_equal(profile.seconds(STEP, engine, 2), np.reshape(stored, (5, 15)))


def test_an_undefined_score_change_is_kept(tmp_path: Path) -> None:
    profile = read_profile(made_profile(tmp_path / "a"))
    scores = [ScoreChange("depth", "rmse", 1, 1, float("nan"), 0.0)]
    engine = replace(profile.engines["onnxruntime"], parity=ParityFacts({}, [], None, scores))
    whole = replace(profile, engines={"onnxruntime": engine})
    stored = read_profile(write_profile(tmp_path / "b", whole).parent)
    assert np.isnan(stored.engines["onnxruntime"].parity.scores[0].mean)


def test_a_folder_without_a_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no profile folder"):
        read_profile(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (PROFILE, '"parameters": 1', '"parameters": "x"', r"damaged \(work.parameters: .*integer"),
        (PROFILE, '"study_items": 617,', "", r"damaged \(options.study_items: Field required\)"),
        (PROFILE, '"environment"', "", r"is damaged \(.*\); profile again"),
        (SAMPLES, "step,onnxruntime,2", "step,onnxruntime,x", r"damaged \(samples.75.rows: "),
        (SAMPLES, "round", "turn", r"damaged \(samples.0.round: Field required\)"),
    ],
)
def test_damage_is_one_sentence_that_names_the_folder_and_the_place(
    file: str, old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    folder = made_profile(tmp_path)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as caught:
        read_profile(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_another_json_value_is_damage(tmp_path: Path) -> None:
    folder = made_profile(tmp_path)
    (folder / SAMPLES).unlink()
    with pytest.raises(UserError, match="is damaged"):
        read_profile(folder)
    (folder / PROFILE).write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(UserError, match="it has no schema"):
        read_profile(folder)
