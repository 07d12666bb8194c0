"""Error rates are counted right, and the procedures of a run have their nominal rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.__main__ import main
from bench.calibration.null_data import Scores
from bench.calibration.rates import Population, Rate, family_level, population, rates
from bench.errors import UserError
from bench.runs.results import Results, TaskResults
from probes.probe_set import POSITION

RNG = np.random.default_rng(0)
CELLS, IMAGES = 1000, 60


def nulls(gain: float = 0.0) -> Scores:
    """Scores of probes that differ by luck alone, or by a gain of the first."""

    def probe(*shape: int) -> np.ndarray:
        luck = RNG.normal(0, 0.05, (*shape, 1))
        return luck + RNG.normal(0, 0.2, (*shape, IMAGES))

    return Scores(
        probe(CELLS) + gain, probe(CELLS, 5), probe(CELLS) + gain, probe(CELLS), probe(CELLS)
    )


def finished() -> Population:
    return Population(*(RNG.gamma(2.0, size=(40, IMAGES)) for _ in range(4)))


def by_name(measured: list[Rate]) -> dict[str, Rate]:
    return {rate.what: rate for rate in measured}


def test_real_procedures_are_wrong_as_often_as_they_say() -> None:
    measured = by_name(rates(finished(), nulls(), CELLS, draws=999))
    for what in ("scores of activations", "differences from position alone"):
        assert measured[what].cells == CELLS
        assert 0.03 < measured[what].rate < 0.075
    # Tests over few images are stricter than their level.
    exchange = measured["paired differences of two permuted probes"]
    assert exchange.cells == CELLS
    assert exchange.at_most
    assert exchange.is_right()
    assert exchange.rate > 0.01
    assert measured["unlike permuted labels"].is_right()
    # Luck of single probes is no gain over many: paired over images alone it would be called one.
    assert measured["the same, over images only (not used)"].rate > 0.1


def test_a_real_gain_is_no_null() -> None:
    measured = by_name(rates(finished(), nulls(gain=0.3), CELLS, draws=999))
    for what in (
        "better than permuted labels",
        "beyond position and mean training map",
        "unlike permuted labels",
    ):
        assert measured[what].rate > 0.5
        assert not measured[what].is_right()


def test_a_rate_is_right_when_its_interval_holds_what_it_should_be() -> None:
    assert Rate("", "", 50, 1000).is_right()
    assert Rate("", "", 50, 1000).interval() == pytest.approx((0.0373, 0.0654), abs=1e-4)
    assert not Rate("", "", 80, 1000).is_right()
    assert not Rate("", "", 20, 1000).is_right()
    assert Rate("", "", 20, 1000, at_most=True).is_right()
    assert not Rate("", "", 80, 1000, at_most=True).is_right()


def test_many_rates_are_judged_together() -> None:
    measured = [Rate("", "", 50, 1000)] * 5 + [Rate("", "", 50, 1000, judged=False)]
    assert family_level(measured) == pytest.approx(0.99)
    edge = Rate("", "", 35, 1000)
    assert not edge.is_right()
    assert edge.is_right(family_level(measured))


def test_the_population_is_that_of_the_run(small_run: Results) -> None:
    source = population(small_run)
    task = small_run.tasks["depth"]
    cell = task.where(network="trained", probe="activations")[0]
    assert source.activations.shape == source.position.shape
    assert len(source.activations) == len(small_run.tasks) * len(small_run.layers) * len(
        small_run.steps
    )
    assert (source.activations == -task.score(cell)).all(1).sum() == 1


def test_tasks_of_whole_images_are_left_out(small_run: Results) -> None:
    def without_position(task: TaskResults) -> TaskResults:
        kept = [index for index, cell in enumerate(task.cells) if cell.network != POSITION]
        tables = {name: getattr(task, name)[kept] for name in ("cv_loss", "thresholds", "scores")}
        return replace(task, cells=tuple(task.cells[index] for index in kept), **tables)

    depth, saliency = (small_run.tasks[name] for name in ("depth", "saliency"))
    mixed = replace(small_run, tasks={"depth": depth, "colour": without_position(saliency)})
    alone = replace(small_run, tasks={"depth": depth})
    assert np.array_equal(population(mixed).activations, population(alone).activations)
    with pytest.raises(UserError, match="has no task of maps"):
        population(replace(small_run, tasks={"colour": without_position(saliency)}))


def test_the_command_fits_probes_to_permuted_labels(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *("--cells", "24", "--draws", "199", "--limit", "60"),
        *("--layers", "up2.0", "--steps", "2"),
    ]
    code = main(["calibration", *arguments])
    printed = capsys.readouterr().out
    assert "null data sets of 24 training and 36 test images" in printed
    rows = [line for line in printed.splitlines() if " of 24  " in line]
    # With so few images all controls may be one constant mask: the exchange is then left out.
    assert len(rows) in (7, 8)
    assert code == any(row.endswith(" no") for row in rows)


def test_too_few_cells_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibration", "--cells", "3"]) == 2
    assert "--cells must be at least 20, not 3" in capsys.readouterr().err


def test_controls_that_are_all_the_same_have_nothing_to_exchange() -> None:
    same = RNG.gamma(2.0, size=(5, IMAGES))
    source = Population(same, np.ones_like(same), np.ones_like(same), same[::-1])
    assert "paired differences of two permuted probes" not in by_name(
        rates(source, nulls(), 50, draws=99)
    )


def test_images_too_few_for_permutations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibration", "--cells", "24", "--limit", "30"]) == 2
    assert "--limit 30: the labels of so few training images have no 5" in capsys.readouterr().err
