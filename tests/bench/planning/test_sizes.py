"""Bytes by arithmetic, against the sums and activations of a run and published figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.config import Config
from bench.networks import recorded_model
from bench.planning import estimate
from bench.planning.advice import advice_on, sum_table
from bench.planning.estimate import plan_of
from bench.planning.gpus import GPUS, fits_on
from bench.planning.sizes import Sizes, sizes_of
from bench.planning.solving import bytes_of
from bench.stages import sum_block
from bench.study import open_study
from datasets.labels import Labels
from probes.accumulate import Accumulator
from probes.statistics import sums_of_tensors

ROOT = Path(__file__).parents[3]
GIB = 2**30


def test_sums_and_shards_are_those_of_a_run(
    small_config: dict[str, object], observed_run: Any
) -> None:
    from safetensors.torch import load_file

    exact = plan_of(Config(**small_config), 0).sizes.exact
    shards = [load_file(path) for path in observed_run.shards]
    assert exact.shards == len(shards)
    for shard in shards:
        assert bytes_of(sums_of_tensors(shard)) == exact.set_bytes
        of_sums = [
            tensor.nbytes for name, tensor in shard.items() if name.endswith(("/mean", "/scatter"))
        ]
        assert sum(of_sums) == exact.shard_bytes


@pytest.mark.parametrize("tasks", [("saliency", "depth"), ("depth", "shape"), ("shape",)])
def test_sketched_sums_and_activations_are_those_of_a_block(
    tasks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(
        engine="torch_eager",
        tasks=tasks,
        source="rendered",
        baselines=("convolution", "text", "reinitialised"),
        layers=("mid", "up2.1"),
        limit=30,
        sampler_steps=2,
        width=16,
        threads=1,
    )
    study = open_study(config)
    recorded, networks = recorded_model(study)
    sizes = sizes_of(study, recorded, len(networks.engines))
    kept: list[int] = []
    finish = Accumulator.finish

    def counting(self: Accumulator, labels: Labels) -> None:
        kept.append(sum(step.nbytes for site in self._activations.values() for step in site))
        finish(self, labels)

    monkeypatch.setattr(Accumulator, "finish", counting)
    block = max(study.train, key=lambda block: len(block.items))
    sums, _ = sum_block(study, recorded, block, block.permutations(study.draws))
    assert sizes.engines == 3
    assert sizes.sketched.width == 16
    assert bytes_of(sums) == sizes.sketched.set_bytes
    assert kept == [sizes.sketched.activation_bytes]
    assert sizes.exact.set_bytes > sizes.sketched.set_bytes


MEASURE = """
import json, sys
from bench.config import Config
from bench.measure import peak_bytes
from bench.planning.estimate import plan_of
plan = plan_of(Config(model=sys.argv[1], weights="random", sampler_steps=28))
exact, sketched = plan.sizes.exact, plan.sizes.sketched
print(json.dumps([peak_bytes(), plan.measured is None, plan.flops_per_row,
                  exact.trained_folds_bytes, sketched.trained_folds_bytes]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "tera", "exact", "sketched"),
    # GiB of 57 layers of 3,072 and 38 of 2,432 channels, over 28 steps and five folds; targets and
    # position are 26 columns more.
    [
        ("flux_dev", 74.4, 57 * 3072**2, 57 * 512**2),
        ("sd35_large", 31.1, 38 * 2432**2, 38 * 512**2),
    ],
)
def test_a_plan_of_a_full_size_model_takes_no_memory_for_weights(
    model: str, tera: float, exact: int, sketched: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, model],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-800:]
    peak, counted, flops, whole, narrow = json.loads(done.stdout.splitlines()[-1])
    assert counted
    assert peak < 2 * GIB
    assert flops == pytest.approx(tera * 1e12, rel=0.01)
    assert 1.0 < whole / (exact * 28 * 5 * 8) < 1.03
    assert 1.0 < narrow / (sketched * 28 * 5 * 8) < 1.12


def test_a_random_network_that_does_not_fit_is_counted_alone(
    small_config: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(**{**small_config, "engine": "torch_eager"}, weights="random")
    monkeypatch.setattr(estimate, "available_bytes", lambda: 1 << 20)
    assert plan_of(config, 2) == plan_of(config, 0)


@pytest.fixture(scope="module")
def sizes(small_config: dict[str, object]) -> Sizes:
    return plan_of(Config(**small_config, width=16), 0).sizes


def test_a_width_is_proposed_where_exact_sums_do_not_fit(sizes: Sizes) -> None:
    fixed = sizes.model_bytes + sizes.call_bytes
    exact, narrow = (fixed + kind.memory_bytes for kind in (sizes.exact, sizes.sketched))
    assert advice_on(sizes, None, exact) is None
    assert advice_on(sizes, 16, narrow) is None
    proposal, nothing_fits = (advice_on(sizes, None, least) for least in (exact - 1, narrow - 1))
    assert proposal
    assert "--width 16 needs" in proposal
    assert "still too much" not in proposal
    assert nothing_fits
    assert "still too much; probe fewer" in nothing_fits
    sketched = advice_on(sizes, 16, narrow - 1)
    assert sketched
    assert "--width" not in sketched


def test_the_table_has_a_column_per_kind_of_sums(sizes: Sizes) -> None:
    headers, rows = sum_table(sizes)
    assert headers[1:] == ["exact sums", "--width 16"]
    assert all(len(row) == 3 for row in rows)
    assert sum_table(replace(sizes, sketched=sizes.exact))[0][1:] == ["exact sums"]


def test_a_card_is_said_to_hold_the_weights_or_not() -> None:
    text = fits_on(GPUS["4090"], 20 * 10**9, 30 * 10**9, 4 * 10**9)
    assert "(20.0 GB) and the taps of a row (4.0 GB) fit into 24 GB" in text
    assert "(30.0 GB in all) they do not fit" in text
    assert "do not fit into 24 GB" in fits_on(GPUS["4090"], 21 * 10**9, 30 * 10**9, 4 * 10**9)
