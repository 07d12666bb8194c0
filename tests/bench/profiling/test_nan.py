"""A NaN among errors, times or scores is never lost, wherever it is."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from itertools import permutations
from math import inf, isnan, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.config import Config
from bench.errors import UserError
from bench.profiling import parity as parity_module
from bench.profiling.calls import Inputs, OpenedEngine, untapped_error
from bench.profiling.formatting import error_of
from bench.profiling.parity import LIMIT, print_parity
from bench.profiling.probe_parity import score_changes
from bench.profiling.records import (
    LAYERS,
    SAMPLES,
    LayerSample,
    ParityFacts,
    read_profile,
    write_profile,
)
from bench.profiling.timing_intervals import ratio_of_groups
from bench.profiling.worst import relative_error, worst
from bench.study import Study
from engines.engine import Prediction
from probes.tasks.depth import TASK as DEPTH
from tests.made_profile import made_profile


@pytest.mark.parametrize("errors", [*permutations([1e-7, nan, 3e-7])])
def test_the_worst_of_errors_with_a_nan_is_nan(errors: tuple[float, ...]) -> None:
    assert isnan(worst(errors))
    assert not worst(errors) <= LIMIT


def test_the_worst_of_numbers_is_the_largest() -> None:
    assert worst([1e-7, 3e-7, 0.0]) == 3e-7
    assert worst([1.0, inf]) == inf


def test_relative_errors() -> None:
    zero, one = torch.zeros(4), torch.ones(4)
    assert relative_error(zero, zero) == 0.0
    assert relative_error(one, zero) == inf
    assert relative_error(1.5 * one, one) == 0.5
    broken = torch.tensor([0.0, nan, 0.0, 0.0])
    assert isnan(relative_error(broken, one))
    assert isnan(relative_error(broken, broken))


@pytest.mark.parametrize("place", ["noise", "mid", "up"])
@pytest.mark.parametrize("step", range(3))
def test_a_nan_in_any_layer_and_step_is_beyond_every_limit(
    place: str, step: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {name: [1e-7] * 3 for name in ("noise", "mid", "up")}
    assert ParityFacts(given, [0.0] * 3).worst == 1e-7
    given[place][step] = nan
    facts = ParityFacts(given, [0.0] * 3)
    assert isnan(facts.worst)
    assert "nan" in error_of(facts)
    study = SimpleNamespace(opened=lambda: None)
    monkeypatch.setattr(parity_module, "open_study", lambda *_, **__: study)
    monkeypatch.setattr(parity_module, "parity_of", lambda *_: facts)
    assert not print_parity(Config(), 1)
    assert "nan: beyond" in capsys.readouterr().out


@dataclass
class Answers:
    """Returns the next of its predictions at every call."""

    values: list[float]

    def __call__(self, *_: object) -> Prediction:
        return Prediction(torch.full((1, 1, 2, 2), self.values.pop(0)), {})


@pytest.mark.parametrize("at", range(3))
def test_a_nan_of_the_tapped_engine_is_its_error(at: int) -> None:
    values = [1.0, 1.0, 1.0]
    values[at] = nan
    opened = SimpleNamespace(engine=Answers(values), untapped=Answers([1.0, 1.0, 1.0]))
    inputs = SimpleNamespace(timesteps=[3.0, 2.0, 1.0], latents=None, conditioning=None)
    error = untapped_error(cast(OpenedEngine, opened), cast(Inputs, inputs))
    assert error is not None
    assert isnan(error)


def changes(expected: Tensor, scores: Tensor) -> tuple[float, float]:
    study = cast(Study, SimpleNamespace(tasks={"depth": DEPTH}))
    (change,) = score_changes({"depth": expected}, {"depth": scores}, study)
    return change.mean, change.largest


def test_a_score_that_one_side_lacks_is_the_worst_change() -> None:
    expected = torch.tensor([[0.5, 0.25, nan], [0.5, 0.5, 0.5]], dtype=torch.float64)
    assert changes(expected, expected + 0.25) == (0.25, 0.25)
    lost = expected.clone()
    lost[1, 1] = nan
    assert all(map(isnan, changes(expected, lost)))
    assert all(map(isnan, changes(lost, expected)))


@pytest.mark.parametrize("value", [nan, inf])
@pytest.mark.parametrize("side", [0, 1])
def test_times_that_are_not_finite_are_not_compared(value: float, side: int) -> None:
    sides = [[np.ones(4), np.ones(4)], [np.ones(4), np.ones(4)]]
    sides[side][1][2] = value
    with pytest.raises(ValueError, match="not finite"):
        ratio_of_groups(*sides, draws=99)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("file", [SAMPLES, LAYERS])
def test_stored_times_that_are_not_finite_are_damage(file: str, value: str, tmp_path: Path) -> None:
    folder = made_profile(tmp_path)
    layer = LayerSample("onnxruntime", 2, 0, 1.0, "mid", "Linear", 0.1)
    write_profile(folder, replace(read_profile(folder), layers=(layer,)))
    with (folder / file).open(newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    rows[-1]["seconds"] = value
    with (folder / file).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(UserError, match=r"damaged .*seconds"):
        read_profile(folder)
