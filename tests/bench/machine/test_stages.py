"""The cost model: arithmetic by hand on a made-up machine, and published rates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.machine.curve import Curve
from bench.machine.published import assumptions, published_rates
from bench.machine.stages import ROWS_BYTES, Rates, card_bytes, seconds_of, stages_of
from bench.planning.gpus import GPUS
from bench.planning.plan import Plan
from bench.planning.sizes import Sizes, SumSizes
from bench.planning.work import Work

SUMS = SumSizes(
    width=None,
    set_bytes=1,
    trained_bytes=1,
    activation_bytes=1,
    folds=5,
    shards=3,
    shard_bytes=700,
)
PLAN = Plan(
    train_items=4,
    test_items=5,
    image_steps=9,
    engine_rows=20,
    flops_per_row=1000,
    decodings=9,
    flops_per_decoding=300,
    flops_per_prompt=50,
    sizes=Sizes(
        parameters={"unet": 100, "vae": 10, "text_encoder": 5},
        engines=2,
        tap_values=40,
        rows=8,
        exact=SUMS,
        sketched=replace(SUMS, width=8, shard_bytes=70),
    ),
    width=None,
    work=Work(
        summed={10: 100, 20: 50},
        read={8: 60},
        problems={8: 6, 4: 2},
        targets={8: 12},
        scored={"saliency": 1000, "depth": 2000},
        target_pixels={"saliency": 30, "depth": 40},
        swept=500,
        intervals=77,
        labelled_pixels=900,
        block_values=250,
    ),
    measured=None,
)


def flat(value: float) -> Curve:
    return Curve(((1.0, value),))


RATES = Rates(
    name="made up",
    network=flat(2000.0),
    autoencoder=flat(100.0),
    text=flat(25.0),
    opening=lambda parameters: parameters * 0.01,
    # Seconds grow with the square of the columns.
    sums=Curve.of([(10, 0.1), (100, 10.0)], extrapolated=True),
    reads=flat(0.5),
    problems=Curve.of([(2, 0.008), (8, 0.512)], extrapolated=True),
    targets=flat(0.25),
    scores={"saliency": 0.001, "depth": 0.002},
    target_pixels={"saliency": 0.01, "depth": 0.1},
    sweep=0.004,
    interval=0.1,
    check=0.0625,
    storing=0.001,
    labels=0.02,
    to_host=160.0,
)
BY_HAND = {
    "loading and opening": 2 * 1.0,
    "text encoders": 10 * 50 / 25,
    "denoisers, with taps": 20 * 1000 / 2000,
    "sampler, joins and checks": 20 * 40 * 0.0625,
    "autoencoder": 9 * 300 / 100,
    "labels": 900 * 0.02,
    "sums and images to the host": (3 * 700 + 900 * 3 * 4) / 160,
    "sums in float64": 100 * 0.1 + 50 * 0.4,
    "storing and adding sums": 3 * 700 * 0.001,
    "eigenproblems": 6 * 0.512 + 2 * 0.064,
    "weights and losses": 12 * 0.25,
    "predictions of probes": 60 * 0.5,
    "thresholds": 500 * 0.004,
    "scores": 1000 * 0.001 + 30 * 0.01 + 2000 * 0.002 + 40 * 0.1,
    "intervals": 77 * 0.1,
}


def test_every_stage_is_the_arithmetic_by_hand() -> None:
    stages = {stage.name: stage.seconds for stage in stages_of(PLAN, RATES)}
    assert stages == pytest.approx(BY_HAND)


def test_the_parts_add_up() -> None:
    assert seconds_of(stages_of(PLAN, RATES)) == pytest.approx(sum(BY_HAND.values()))


def test_twice_the_rows_add_the_time_of_networks_and_checks_alone() -> None:
    more = seconds_of(stages_of(replace(PLAN, engine_rows=40), RATES))
    added = ("denoisers, with taps", "sampler, joins and checks")
    fewer = seconds_of(stages_of(PLAN, RATES))
    assert more - fewer == pytest.approx(sum(BY_HAND[name] for name in added))


def test_what_a_machine_does_not_have_is_no_stage() -> None:
    on_cpu = replace(RATES, labels=None, to_host=None)
    names = [stage.name for stage in stages_of(PLAN, on_cpu)]
    left_out = ["labels", "sums and images to the host"]
    assert names == [name for name in BY_HAND if name not in left_out]


def test_a_projected_run_stores_its_sketched_sums() -> None:
    stages = {s.name: s.seconds for s in stages_of(replace(PLAN, width=8), RATES)}
    assert stages["storing and adding sums"] == pytest.approx(3 * 70 * 0.001)


def test_a_task_that_was_not_measured_takes_the_slowest_rate() -> None:
    other = replace(PLAN.work, scored={"normals": 1000}, target_pixels={"normals": 30})
    stages = {s.name: s.seconds for s in stages_of(replace(PLAN, work=other), RATES)}
    assert stages["scores"] == pytest.approx(1000 * 0.002 + 30 * 0.1)


def test_a_card_holds_weights_taps_a_block_and_rows() -> None:
    block = 2 * 250 + 2 * 700
    assert card_bytes(PLAN, 2) == 2 * 100 * 2 + 4 * 15 + 2 * 40 * 8 + block + ROWS_BYTES


def test_a_curve_follows_a_power_and_holds_or_continues_beyond_its_ends() -> None:
    points = [(100, 1e6), (10, 1e3)]
    held, continued = Curve.of(points), Curve.of(points, extrapolated=True)
    for size in (10, 20, 70, 100):
        assert held(size) == pytest.approx(size**3)
    assert (held(1), held(1000)) == pytest.approx((1e3, 1e6))
    assert (continued(1), continued(1000)) == pytest.approx((1.0, 1e9))
    assert Curve.of([(5, 2.0)], extrapolated=True)(50) == 2.0


def test_networks_take_the_time_that_was_measured_on_an_h100() -> None:
    """16 rows of Stable Diffusion v1's UNet took 3.31 ms per row in fp16 and 24.31 ms in fp32."""
    full = replace(PLAN, engine_rows=27_765, flops_per_row=803_270_000_000)
    for precision, row_ms in (("fp16", 3.31), ("fp32", 24.31)):
        stages = stages_of(full, published_rates(GPUS["h100"], precision))
        seconds = next(s.seconds for s in stages if s.name.startswith("denoisers"))
        assert seconds == pytest.approx(27_765 * row_ms * 1e-3, rel=0.01)


@pytest.mark.parametrize("name", GPUS)
def test_a_card_is_as_fast_in_float64_as_published(name: str) -> None:
    """A token of d columns is 2 d squared operations."""
    gpu = GPUS[name]
    rate = 2 * 340**2 / published_rates(gpu, "fp16").sums(340)
    assert rate == pytest.approx(0.4 * gpu.double_flops, rel=0.02)


@pytest.mark.parametrize(("name", "basis"), [("h100", "on this card"), ("a100", "assumed here")])
def test_the_basis_of_a_prediction_is_stated(name: str, basis: str) -> None:
    text = "\n".join(assumptions(GPUS[name]))
    assert basis in text
    assert GPUS[name].source in text
    assert "25% of the fp16 peak or 49% of the fp32" in text
