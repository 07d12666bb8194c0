"""A run with engine, statistics and other parts on a GPU has the scores of the CPU."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench import stages
from bench.config import Config
from bench.run import run
from bench.runs.results import read_results
from bench.study import Study, open_study
from engines.components import Components

COMPUTING = ("Accumulator", "Readout", "solve_sites", "solve_position")


def test_scores_are_those_of_the_cpu(
    tmp_path: Path, card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(
        limit=12,
        sampler_steps=1,
        layers=("mid",),
        tasks=("saliency", "depth"),
        baselines=("vae", "decoded"),
        random_networks=0,
        threads=1,
        out=str(tmp_path / "cpu"),
    )
    here = read_results(run(config).path)
    devices: dict[str, set[torch.device]] = defaultdict(set)

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            devices[name].add(inspect.signature(real).bind(*args, **kwargs).arguments["device"])
            return real(*args, **kwargs)

        return call

    for name in COMPUTING:
        monkeypatch.setattr(stages, name, noting(name, getattr(stages, name)))
    monkeypatch.setattr(Study, "device", property(lambda _: card.device))
    there = read_results(run(replace(config, out=str(tmp_path / "card"))).path)
    assert devices == {name: {card.device} for name in COMPUTING}
    assert here.tasks.keys() == there.tasks.keys()
    for name, task in here.tasks.items():
        assert task.cells == there.tasks[name].cells
        np.testing.assert_array_equal(task.scores, there.tasks[name].scores)


def test_who_opens_an_engine_sends_the_other_parts_to_its_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[torch.device] = []
    monkeypatch.setattr(Components, "send", lambda _, device: sent.append(device))
    study = open_study(Config(engine="torch_eager", limit=12, threads=1))
    study.opened()
    assert sent == [torch.device("cpu")]


def test_a_card_has_the_number_that_this_process_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(Config(limit=12, threads=1))
    assert study.device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert replace(study, backend=replace(study.backend, device="cuda")).device == torch.device(
        "cuda", 2
    )
