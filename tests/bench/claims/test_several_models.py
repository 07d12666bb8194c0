"""Claims about several models: which runs they compare, and seeds as one group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.registry import plugin
from bench.verdicts.check import check
from tests.bench.claims.test_claims import matched, middle, network, two
from tests.synthetic_run import made_run


def test_transformers_are_compared_with_unets_of_their_objective_alone() -> None:
    """A UNet of another objective beside them, and runs of rendered images, change nothing."""
    unlike = made_run(network("trained", 0.2), model="unet_flow_0")
    rendered = made_run(tasks=("colour",), model="tiny", source="rendered")
    claims = {"x": plugin("claim", "transformers_are_less_local")}
    (checked,) = check(claims, [*matched(0.6)(Path()), unlike, rendered])
    assert checked.verdict == "holds"
    assert [effect.what.partition("shortfall of ")[2] for effect in checked.effects] == [
        "dit_noise_0 over that of tiny"
    ]


def test_seeds_of_a_network_are_one_group_whose_spread_counts() -> None:
    """Two UNets whose shortfalls differ more than that of a transformer from their mean."""
    far = made_run(network("trained", 0.5), model="unet_noise_1")
    claims = {"x": plugin("claim", "transformers_are_less_local")}
    (checked,) = check(claims, [*matched(0.6)(Path()), far])
    (effect,) = checked.effects
    assert "over that of tiny and unet_noise_1" in effect.what
    assert effect.value.mean == pytest.approx(0.05, abs=0.02)
    assert effect.value.high - effect.value.mean > 1
    assert checked.verdict == "undecided"


def test_a_second_run_of_a_network_is_no_further_group() -> None:
    far = made_run(network("trained", 0.5), model="unet_noise_1")
    claims = {"x": plugin("claim", "transformers_are_less_local")}
    runs = [*matched(0.6)(Path()), far]
    again = made_run(network("trained", 0.9), model="tiny", path=Path("again"))
    (once,), (twice,) = (check(claims, [*runs, *more]) for more in ((), (again,)))
    assert len(twice.effects) == len(once.effects) == 1
    assert twice.effects[0].what == once.effects[0].what


def test_runs_of_other_items_are_not_compared() -> None:
    from tests.bench.across.synthetic import with_conditions

    claims = {"x": plugin("claim", "transformers_are_less_local")}
    runs = [
        with_conditions(results, labeler=f"labeler {number}")
        for number, results in enumerate(matched(0.6)(Path()))
    ]
    (checked,) = check(claims, runs)
    assert checked.verdict == "undecided"
    assert "the runs differ in labeler" in checked.lacks


def test_a_run_that_stops_before_the_last_step_does_not_settle() -> None:
    whole = made_run(network("trained", 0.5))
    steps = whole.steps[:8]
    record = whole.record.model_copy(update={"steps": steps})
    for name in ("settled_by_step_5", "quality_peaks_between"):
        results = replace(whole, record=record)
        if name == "quality_peaks_between":
            results = replace(results, config=replace(results.config, source="rendered"))
        (checked,) = check({"x": plugin("claim", name)}, [results])
        assert checked.verdict == "undecided"
        assert "a run that probes the last step" in checked.lacks


def test_runs_without_depth_are_left_out_where_models_are_compared() -> None:
    rendered = made_run(tasks=("colour",), model="tiny", source="rendered")
    runs = [*two(middle(0.9))(Path()), rendered]
    (checked,) = check({"x": plugin("claim", "middle_layers_hold_3d")}, runs)
    assert checked.verdict == "holds"
