"""A run whose engine, statistics and other parts are on a GPU has the scores of the CPU.

The GPU is a stand-in, which also counts copies and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench import stages
from bench import study as study_module
from bench.config import Config
from bench.registry import usable_engine
from bench.run import run
from bench.runs.results import read_results
from bench.study import Study, open_study
from datasets.items import Item
from engines import host_copy
from engines.components import Components
from engines.denoiser import Denoiser
from engines.engine import Backend, Tap
from engines.host_copy import CpuCopier
from engines.torch_cuda import opened

CONFIG = Config(
    engine="torch_eager",
    limit=12,
    sampler_steps=2,
    steps=(2,),
    layers=("mid", "up3.2"),
    tasks=("saliency", "depth", "colour"),
    baselines=("vae", "unconditional"),
    random_networks=1,
    threads=1,
    shard=2,
)
MOST_WAITS = 4
"""For a block's prompts, its checks and times, its images, and its results."""


@dataclass
class Counted:
    """What one block has cost, from its prompts to its results on the CPU."""

    waits: int
    bytes_to_host: int
    results: int
    """Bytes of the results."""
    images: int


def on_the_stand_in(device: torch.device) -> Callable[[str], Backend]:
    """Look an engine up as usual, and open it on the stand-in."""

    def open_there(denoiser: Denoiser, taps: Sequence[Tap], _cache: Path, threads: int) -> Any:
        return opened(denoiser, taps, threads, device=str(device))

    return lambda name: replace(usable_engine(name), open=open_there, device=str(device))


def counted_run(config: Config, card: SimpleNamespace, patch: pytest.MonkeyPatch) -> list[Counted]:
    """Run on the stand-in; return the counts of every block."""

    class Copier(CpuCopier):
        def mark(self) -> Callable[[], None]:
            def wait() -> None:
                card.counts.waits += 1

            return wait

    blocks: list[Counted] = []
    before: list[tuple[int, int, int]] = []
    real_stream, real_copy = Study.stream, host_copy.to_host

    def stream(study: Study, recorded: Any, items: Sequence[Item], *args: Any) -> Any:
        before.append((card.counts.waits, card.counts.bytes_to_host, len(items)))
        return real_stream(study, recorded, items, *args)

    def to_host(tensors: dict[Any, Tensor]) -> dict[Any, Tensor]:
        result = real_copy(tensors)
        if before and all(isinstance(name, str) for name in tensors):
            waits, copied, items = before.pop()
            size = sum(value.nbytes for name, value in result.items() if value is not tensors[name])
            blocks.append(
                Counted(card.counts.waits - waits, card.counts.bytes_to_host - copied, size, items)
            )
        return result

    patch.setattr(host_copy, "copier_of", lambda _device: Copier())
    patch.setattr(study_module, "usable_engine", on_the_stand_in(card.device))
    patch.setattr(Study, "stream", stream)
    patch.setattr(stages, "to_host", to_host)
    run(config)
    return blocks


def test_scores_are_those_of_the_cpu_and_activations_never_leave(
    tmp_path: Path, card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = read_results(run(replace(CONFIG, out=str(tmp_path / "cpu"))).path)
    blocks = counted_run(replace(CONFIG, out=str(tmp_path / "card")), card, monkeypatch)
    there = read_results(tmp_path / "card")
    assert here.tasks.keys() == there.tasks.keys()
    for name, task in here.tasks.items():
        assert task.cells == there.tasks[name].cells
        np.testing.assert_array_equal(task.scores, there.tasks[name].scores)
    study = open_study(CONFIG)
    assert len(blocks) == len(study.train) + len(study.test) > 4
    words = study.components.embed(["a"]).nbytes
    height, width = study.components.image_size
    for index, block in enumerate(blocks):
        if index == len(study.train):
            # The first test block also decodes and reads the images of the report.
            continue
        # The first block of all embeds the empty prompt.
        assert block.waits <= MOST_WAITS + (index == 0)
        per_image = words + 3 * height * width * 4
        flags = block.bytes_to_host - block.results - block.images * per_image
        assert 0 <= flags <= words + 1000


@pytest.mark.gpu
@pytest.mark.parametrize(("engine", "tolerance"), [("torch_cuda", 1e-3), ("torch_cuda_fp16", 0.05)])
def test_a_run_on_a_real_card_has_nearly_the_scores_of_the_cpu(
    tmp_path: Path, engine: str, tolerance: float
) -> None:
    """Latents differ in their last digits, and labels with them at the edges of objects."""
    config = replace(CONFIG, limit=40, sampler_steps=4, steps=(1, 2, 3, 4))
    here, there = (
        read_results(run(replace(config, engine=name, out=str(tmp_path / name))).path)
        for name in ("torch_eager", engine)
    )
    assert here.tasks.keys() == there.tasks.keys()
    for name, task in here.tasks.items():
        assert task.cells == there.tasks[name].cells
        difference = task.scores[:, 0].mean(-1) - there.tasks[name].scores[:, 0].mean(-1)
        assert np.nanmax(abs(difference)) < tolerance


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
