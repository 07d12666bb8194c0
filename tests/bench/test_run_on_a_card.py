"""A run whose engine is a card's, its statistics and the model's other parts there too, has the CPU's scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.config import Config
from bench.results import read_results
from bench.run import run
from bench.study import Study


def test_scores_are_those_of_the_cpu(tmp_path: Path, card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(
        limit=12,
        sampler_steps=1,
        layers=("mid",),
        tasks=("saliency", "shape"),
        random_networks=0,
        source="rendered",
        threads=1,
        out=str(tmp_path / "cpu"),
    )
    here = read_results(run(config).path)
    # Libraries open models on this device, too.
    opening = card.operations
    monkeypatch.setattr(Study, "device", property(lambda _: card.device))
    there = read_results(run(replace(config, out=str(tmp_path / "card"))).path)
    assert card.operations > 3 * opening
    assert here.tasks.keys() == there.tasks.keys()
    for name, task in here.tasks.items():
        assert task.cells == there.tasks[name].cells
        np.testing.assert_array_equal(task.scores, there.tasks[name].scores)
