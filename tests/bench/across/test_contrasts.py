"""Models at equal noise levels, and the differences between groups of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.across.contrasts import (
    Reading,
    best_of,
    contrasts_of,
    differences,
    groups_of,
    levels_in_range,
    points,
    readings_of,
)
from bench.across.models import models_of
from bench.across.shared import shared
from bench.errors import UserError
from probes.bootstrap import paired_difference
from probes.probe_set import ACTIVATIONS, PERMUTED, WITH_POSITION, Cell
from tests.bench.across.synthetic import LEVELS, run_of

ZOO = (
    *("tiny", "mmdit_flow_0", "unet_flow_0", "mmdit_flow_1", "dit_noise_0", "unet_noise_1"),
    *("mmdit_flow_0_at_640", "mmdit_flow_0_at_160"),
)


def rising(_: str, cell: Cell) -> float:
    """The trained network's layers rise with the steps; up0 is the best one."""
    if cell.network != "trained" or cell.probe == PERMUTED:
        return 0.2
    return 0.3 + 0.03 * cell.step + (0.05 if cell.layer == "up0" else 0.0)


def test_seeds_form_groups_and_contrasts_are_matched_in_all_but_one_thing() -> None:
    models = models_of([run_of(name) for name in ZOO])
    groups = {tuple(model.name for model in group) for group in groups_of(models)}
    assert ("tiny", "unet_noise_1") in groups
    assert ("mmdit_flow_0", "mmdit_flow_1") in groups
    assert len(groups) == 6
    found = {
        (x.what, tuple(m.name for m in x.first), tuple(m.name for m in x.second))
        for x in contrasts_of(models)
    }
    unets, mmdits = ("tiny", "unet_noise_1"), ("mmdit_flow_0", "mmdit_flow_1")
    assert found == {
        ("architecture", mmdits, ("unet_flow_0",)),
        ("architecture", unets, ("dit_noise_0",)),
        ("objective", unets, ("unet_flow_0",)),
        ("architecture and objective", unets, mmdits),
        ("architecture and objective", mmdits, ("dit_noise_0",)),
        ("architecture and objective", ("unet_flow_0",), ("dit_noise_0",)),
        ("seed", ("tiny",), ("unet_noise_1",)),
        ("seed", ("mmdit_flow_0",), ("mmdit_flow_1",)),
        ("training", ("mmdit_flow_0",), ("mmdit_flow_0_at_640",)),
        ("training", ("mmdit_flow_0",), ("mmdit_flow_0_at_160",)),
        ("training", ("mmdit_flow_0_at_640",), ("mmdit_flow_0_at_160",)),
    }


def test_a_group_of_one_network_is_called_so() -> None:
    models = models_of([run_of(name) for name in ("tiny", "unet_noise_1", "dit_noise_0")])
    words = {contrast.words for contrast in contrasts_of(models)}
    assert words == {
        "tiny and unet_noise_1 minus dit_noise_0 (this one network)",
        "tiny minus unet_noise_1",
    }


def test_scores_are_interpolated_in_log_snr_for_each_image() -> None:
    levels = [-np.inf, *(x + 0.5 for x in LEVELS[1:])]
    models = models_of([run_of("tiny", rising), run_of("mmdit_flow_0", rising, levels)])
    common = shared(models)
    reading = Reading("depth", ACTIVATIONS)
    for model, steps in zip(models, (LEVELS, levels), strict=True):
        task = model.results.tasks["depth"]
        curve = np.array(
            [
                task.score(task.where(network="trained", layer="up0", step=k, probe=ACTIVATIONS)[0])
                for k in range(1, 15)
            ]
        )
        expected = [[np.interp(x, steps[1:], image) for x in (-2, 0.3)] for image in curve.T]
        assert best_of(common, model, reading).at((-2, 0.3)) == pytest.approx(np.array(expected))


def test_differences_are_paired_and_signed_so_that_better_is_above_zero() -> None:
    runs = [run_of("tiny", rising, shift=0.1), run_of("dit_noise_0", rising, seed=2)]
    common = shared(models_of(runs))
    rows = differences(common, (0.0,))
    assert [str(row.reading) for row in rows] == [
        *("saliency", "saliency with position", "depth", "depth with position")
    ]
    for row in rows:
        assert row.difference.value.mean == pytest.approx(0.1, abs=0.02)
        assert row.is_significant
    saliency = [best_of(common, m, rows[0].reading).at((0.0,)).T for m in common.models]
    direct = paired_difference(*saliency)
    assert rows[0].difference.value.low == direct.low[0]


def test_seeds_widen_the_interval_of_an_architecture() -> None:
    names = ("tiny", "unet_noise_1", "dit_noise_0")
    apart = [run_of(n, rising, shift=s) for n, s in zip(names, (0.1, -0.1, 0.0), strict=True)]
    alike = [run_of(n, rising, shift=s) for n, s in zip(names, (0.0, 0.0, 0.0), strict=True)]
    widths = []
    for runs in (apart, alike):
        (row,) = [
            row
            for row in differences(shared(models_of(runs)), (0.0,))
            if row.contrast.what == "architecture" and str(row.reading) == "depth"
        ]
        assert row.difference.over_seeds
        widths.append(row.difference.value.high - row.difference.value.low)
    assert widths[0] > 10 * widths[1]


def test_points_have_the_layer_and_its_relative_position() -> None:
    common = shared(models_of([run_of("tiny", rising), run_of("dit_noise_0", rising)]))
    found = [p for p in points(common, (0.0, 0.5)) if p.reading == Reading("depth", WITH_POSITION)]
    assert {(point.layers, point.position) for point in found} == {("up0", 2 / 3)}
    assert {point.model for point in found} == {"tiny", "dit_noise_0"}


def test_levels_outside_the_steps_of_a_run_are_refused_and_defaults_left_out() -> None:
    narrow = tuple(0.2 * level for level in LEVELS)
    common = shared(models_of([run_of("tiny"), run_of("dit_noise_0", levels=narrow)]))
    assert levels_in_range(common, None) == (0.0,)
    assert levels_in_range(common, (1.0, -1.0)) == (-1.0, 1.0)
    with pytest.raises(UserError, match=r"log-SNR 2; choose --log-snr from -1.40 to 1.40"):
        levels_in_range(common, (0.0, 2.0))


def test_a_task_of_whole_images_is_read_without_position() -> None:
    tasks = ("depth", "colour")
    common = shared(models_of([run_of("tiny", tasks=tasks), run_of("dit_noise_0", tasks=tasks)]))
    assert [str(x) for x in readings_of(common)] == ["depth", "depth with position", "colour"]


def test_a_second_run_of_one_seed_is_no_further_network(tmp_path: Path) -> None:
    first, other = models_of([run_of("tiny", rising), run_of("unet_noise_1", rising, seed=2)])
    again = replace(first, results=replace(first.results, path=tmp_path))
    assert [len(group) for group in groups_of([first, other])] == [2]
    assert [len(group) for group in groups_of([first, other, again])] == [2, 1]
