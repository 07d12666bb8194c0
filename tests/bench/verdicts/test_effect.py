"""Verdicts on effects: least values, and the false discovery rate over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.verdicts.effect import over_networks, paired, verdict_of, with_rates

RNG = np.random.default_rng(0)
BASE = RNG.normal(0, 0.3, 100)


def around(mean: float, noise: float = 0.05) -> np.ndarray:
    return BASE + mean + RNG.normal(0, noise, 100)


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.2, "holds"), (0.05, "undecided"), (0.0, "fails"), (-0.1, "fails")]
)
def test_an_effect_is_compared_with_its_least_value(gain: float, verdict: str) -> None:
    better = BASE + gain + np.tile([0.05, -0.05], 50)
    ((effect,),) = with_rates([[paired("x", better, BASE, 0.05)]])
    assert effect.value.mean == pytest.approx(gain)
    assert effect.value.low <= gain <= effect.value.high
    assert effect.verdict == verdict


def test_the_interval_leaves_out_the_least_value_exactly_where_the_test_rejects() -> None:
    for gain in np.linspace(-0.02, 0.03, 40):
        effect = paired("x", around(gain), BASE, 0.01)
        assert (effect.p <= 0.05) is not (effect.value.low <= 0.01 <= effect.value.high)


def test_many_effects_need_stronger_evidence() -> None:
    weak = next(
        effect
        for _ in range(200)
        if 0.02 < (effect := paired("x", around(0.011, 0.05), BASE)).p < 0.05
    )
    nothing = [paired("null", around(0.0), BASE) for _ in range(10)]
    assert with_rates([[weak]])[0][0].verdict == "holds"
    assert with_rates([[weak], nothing])[0][0].verdict == "undecided"


def test_networks_that_differ_widely_decide_less_than_alike_ones() -> None:
    alike = np.array([around(0.3, 0.01) for _ in range(3)])
    apart = alike + np.array([-0.3, 0.0, 0.3])[:, None]
    scores = around(0.5)
    ((narrow, wide),) = with_rates(
        [[over_networks("x", scores, nets, 0.01) for nets in (alike, apart)]]
    )
    assert narrow.value.mean == pytest.approx(wide.value.mean)
    assert (narrow.verdict, wide.verdict) == ("holds", "undecided")


def test_a_claim_needs_all_effects_and_one_refutes_it() -> None:
    effects = [around(0.2), around(0.0, 0.0), around(-0.2)]
    ((good, none, bad),) = with_rates([[paired("x", e, BASE) for e in effects]])
    assert verdict_of([good]) == "holds"
    assert verdict_of([good, none]) == "undecided"
    assert verdict_of([good, none, bad]) == "fails"
    assert verdict_of([]) == "undecided"


def test_an_undefined_effect_decides_nothing() -> None:
    ((effect,),) = with_rates([[paired("x", np.full(5, np.nan), np.zeros(5))]])
    assert effect.verdict == "undecided"
