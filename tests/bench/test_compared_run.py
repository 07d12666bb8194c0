"""A run with baselines: cells of every network, unchanged scores of the trained one."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bench.__main__ import main
from bench.analysis.comparisons import baseline_comparisons
from bench.analysis.curves import baseline_curves
from bench.analysis.emergence import Onset, catching_up, catching_up_line
from bench.config import BASELINES, Config
from bench.run import run
from bench.runs.results import Results, read_results
from datasets.grid import Grid
from datasets.splits import FOLDS
from extract.networks import DECODED_LAYERS
from extract.shards import Shards
from probes.bootstrap import Score
from probes.probe_set import ACTIVATIONS, ALWAYS, PERMUTED, WITH_POSITION, Cell

ROOT = Path(__file__).parents[2]
OPTIONS: dict[str, object] = {
    "engine": "torch_eager",
    "limit": 24,
    "sampler_steps": 3,
    "layers": ("mid", "up3.0"),
    "threads": 1,
    "shard": 4,
}
BOTH = ["mid.0", "up3.0"]
LAYERS = {
    "input": ["latent"],
    "clean": ["predicted"],
    "trained": BOTH,
    "random-1": BOTH,
    "own-1": BOTH,
    "reinitialised-1": BOTH,
    "own reinitialised-1": BOTH,
    "vae": ["mid", "up0", "up1", "up2"],
    "convolution": ["mid.0", "mid.1", "up3.0"],
    "text": ["pooled"],
    "unconditional": BOTH,
    "decoded": ["latent", "predicted"],
}


@dataclass
class Accesses:
    """What a run wrote and read in its shards, in order."""

    written: list[str] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    """Images of every shard of sums that was read."""
    early: set[str] = field(default_factory=set)
    """Shards of sums that were read before they were written."""
    held: set[tuple[str, ...]] = field(default_factory=set)
    """Sites whose moments were read at once."""


@pytest.fixture(scope="module")
def accesses() -> Accesses:
    return Accesses()


@pytest.fixture(scope="module")
def plain(accesses: Accesses, tmp_path_factory: pytest.TempPathFactory) -> Results:
    write, read = Shards.write, Shards.read

    def writing(shards: Shards, name: str, tensors: dict[str, torch.Tensor]) -> None:
        accesses.written.append(name)
        write(shards, name, tensors)

    def reading(
        shards: Shards, name: str, select: Callable[[str], bool] = lambda _: True
    ) -> dict[str, torch.Tensor]:
        tensors = read(shards, name, select)
        if "images" in tensors:
            # SufficientStatistics, for the probe whose shard comes next.
            accesses.images[name] = int(tensors["images"])
            accesses.early |= {name} - set(accesses.written)
            moments = {key.rpartition("/")[0] for key in tensors if key.endswith("/scatter")}
            accesses.held.add(tuple(sorted(moments)))
        return tensors

    config = Config(**OPTIONS, out=str(tmp_path_factory.mktemp("plain") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shards, "write", writing)
        patch.setattr(Shards, "read", reading)
        return read_results(run(config).path)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("compared") / "run"
    command = ["run", "--baselines", "all", "--out", str(folder)]
    for name, value in OPTIONS.items():
        typed = ",".join(value) if isinstance(value, tuple) else str(value)
        command += ["--" + name.replace("_", "-"), typed]
    assert main(command) == 0
    return read_results(folder)


def test_every_network_has_a_cell_per_layer_step_and_probe(compared: Results) -> None:
    assert compared.record.networks == tuple(LAYERS)
    assert {name.replace("-", " ") for name in BASELINES} <= {x.removesuffix("-1") for x in LAYERS}
    for task in compared.tasks.values():
        for network, layers in LAYERS.items():
            probes = (
                {ACTIVATIONS: 1} if network == "decoded" else {ACTIVATIONS: 1, WITH_POSITION: 1}
            )
            if network == "trained":
                # The ten training images lie in blocks of two, which have one other order.
                probes[PERMUTED] = 1
            for layer in layers:
                for step in range(3):
                    for probe, count in probes.items():
                        cells = task.where(network=network, layer=layer, step=step, probe=probe)
                        assert len(cells) == count, (network, layer, step, probe)
            assert {cell.layer for cell in task.where(network=network)} == set(layers)
        assert len(task.where(network="decoded")) == 6
        assert task.scores.shape == (
            len(task.cells),
            len(task.metrics),
            len(compared.record.test_items),
        )


def test_what_is_recorded_beside_it_changes_no_bit_of_the_trained_networks_scores(
    plain: Results, compared: Results
) -> None:
    for name, task in plain.tasks.items():
        other = compared.tasks[name]
        assert set(task.cells) < set(other.cells)
        for cell in task.cells:
            before, after = task.cells.index(cell), other.cells.index(cell)
            assert np.array_equal(task.scores[before], other.scores[after], equal_nan=True), cell
            assert np.array_equal(
                task.thresholds[before], other.thresholds[after], equal_nan=True
            ), cell
    probes, others = (
        load_file(results.path / "probes.safetensors") for results in (plain, compared)
    )
    assert probes.keys() < others.keys()
    for key, values in probes.items():
        assert np.array_equal(values, others[key]), key
    for key, values in plain.strips.items():
        assert np.array_equal(values, compared.strips[key]), key


def test_networks_differ_from_the_trained_one_and_from_each_other(compared: Results) -> None:
    networks = ("trained", "random-1", "own-1", "reinitialised-1", "unconditional")
    # Not of masks: few images make probes that find everything salient, which all networks can.
    depth = compared.tasks["depth"]
    for step in (1, 2):
        cells = (Cell(name, "up3.0", step, ACTIVATIONS, 0, Grid(16, 16)) for name in networks)
        rows = [depth.score(cell) for cell in cells]
        for at, row in enumerate(rows):
            assert not any(np.allclose(row, other, rtol=1e-4) for other in rows[:at])
    # A network on its own begins with the latents that the trained one begins with.
    first = [
        depth.score(Cell(network, "up3.0", 0, ACTIVATIONS, 0, Grid(16, 16)))
        for network in ("random-1", "own-1")
    ]
    np.testing.assert_allclose(first[0], first[1], rtol=1e-3)


def test_nothing_is_fit_to_what_is_decoded(compared: Results) -> None:
    assert not any("decoded" in name for name in load_file(compared.path / "probes.safetensors"))
    for name, task in compared.tasks.items():
        for cell in task.where(network="decoded"):
            at = task.cells.index(cell)
            assert math.isnan(task.cv_loss[at])
            assert cell.grid == Grid(64, 64)
            if name == "saliency":
                assert task.thresholds[at] == 0.5
        assert task.best(network="decoded", step=0) is None


def test_after_the_last_step_the_labeler_sees_the_finished_image(compared: Results) -> None:
    for name, best in (("saliency", 1.0), ("depth", 0.0)):
        task = compared.tasks[name]
        last = task.score(Cell("decoded", "latent", 2, ACTIVATIONS, 0, Grid(64, 64)))
        first = task.score(Cell("decoded", "latent", 0, ACTIVATIONS, 0, Grid(64, 64)))
        np.testing.assert_allclose(last, best, rtol=0, atol=1e-6)
        assert np.abs(first - best).mean() > 0.05


def test_the_labeler_on_the_finished_image_is_no_baseline(compared: Results) -> None:
    """After the last step the decoded image is the labelled one."""
    rows = [row for row in baseline_comparisons(compared) if "labeler" in row.what]
    assert {row.step for row in rows} == {0}
    last = replace(compared, record=compared.record.model_copy(update={"steps": (2,)}))
    assert not [row for row in baseline_comparisons(last) if "labeler" in row.what]
    for task in compared.tasks.values():
        for layer in DECODED_LAYERS:
            onset = catching_up(compared, task, layer)
            assert onset is not None
            assert onset.numbers == (1, 2)
            assert catching_up(last, task, layer) is None
        line = catching_up_line(
            compared, task.name, {"latent": Onset(Score(3.0, 2.0, 3.0), (1, 2))}
        )
        words = "the decoded image catches up with the probe not before the last step [2, last]"
        assert line == f"{task.name}: {words}"
    # What a rendered image was noised to is another image than the labelled one.
    config = replace(compared.config, source="rendered", baselines=())
    rendered = replace(compared, config=config)
    assert {row.step for row in baseline_comparisons(rendered) if "labeler" in row.what} == {0, 2}


def test_of_one_seed_a_comparison_says_so(compared: Results) -> None:
    one = {
        row.what
        for row in baseline_comparisons(compared)
        if row.what.endswith(": this one network")
    }
    assert {what.partition(",")[0] for what in one} == {
        "permuted weights",
        "re-initialised weights",
    }
    # Both with the trained network's latents and with their own.
    assert len(one) == 4
    seeds = [
        name.replace("own-1", "own-2").replace("random-1", "own-1")
        for name in compared.record.networks
    ]
    renamed = dict(zip(compared.record.networks, seeds, strict=True))
    tasks = {
        name: replace(
            task,
            cells=tuple(
                replace(cell, network=renamed.get(cell.network, cell.network))
                for cell in task.cells
            ),
        )
        for name, task in compared.tasks.items()
    }
    two = replace(
        compared, record=compared.record.model_copy(update={"networks": seeds}), tasks=tasks
    )
    (row,) = [
        row
        for row in baseline_comparisons(two)
        if row.what == "permuted weights, their own latents"
        and (row.step, row.task) == (2, "depth")
    ]
    task = two.tasks["depth"]
    cells = [task.best(network=name, step=2, probe=ACTIVATIONS) for name in ("own-1", "own-2")]
    spread = abs(np.subtract(*(task.score(cell).mean() for cell in cells))) / np.sqrt(2)
    # Student's t with one degree of freedom.
    assert row.gain.high - row.gain.low >= 2 * 12.706 * spread * np.sqrt(1.5) * 0.999
    drawn = {baseline.network: points for baseline, points in baseline_curves(two, task)}["own"]
    assert drawn[-1][1].mean == pytest.approx(np.mean([task.score(cell).mean() for cell in cells]))


def test_costs_are_booked_to_the_network_that_caused_them(compared: Results) -> None:
    items = len(compared.record.train_items) + len(compared.record.test_items)
    rows_per_item = {"trained": 2, "random-1": 1, "own-1": 2, "reinitialised-1": 1}
    rows_per_item |= {"own reinitialised-1": 2, "vae": 1}
    expected = {network: rows * items for network, rows in rows_per_item.items()}
    expected["decoded"] = 2 * len(compared.record.test_items)
    with (compared.path / "costs.csv").open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert list(dict.fromkeys(row["network"] for row in table)) == list(expected)
    for network, rows in expected.items():
        assert [int(row["rows"]) for row in table if row["network"] == network] == [rows] * 3


def test_shards_are_written_first_and_read_when_a_stage_is_done(
    plain: Results, accesses: Accesses
) -> None:
    written, images, held = accesses.written, accesses.images, accesses.held
    assert not accesses.early
    stages = [name.partition("-")[0] + name[4:6] * name.startswith("fold") for name in written]
    folds = [f"fold-{fold}" for fold in range(FOLDS)]
    assert list(dict.fromkeys(stages)) == [*folds[:-1], "draft", folds[-1], "final", "test"]
    assert stages == sorted(stages, key=list(dict.fromkeys(stages)).index)
    # Every place has its shard, and so has every grid; one place's moments at most are read for it.
    sites = {
        (cell.network, cell.layer) for cell in plain.tasks["depth"].cells if cell.step != ALWAYS
    }
    grids = {cell.grid for cell in plain.tasks["depth"].where(network="trained")}
    assert stages.count("final") == len(sites) + len(grids)
    assert max(len(one) for one in held) == 1
    assert len(held) == 1 + len(sites)
    assert sum(images.values()) == len(plain.record.train_items)
