"""Agreement of final labels and transfer of probes, against obvious pixel code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, jaccard_score
from torch import Tensor

from bench.across.agreement import (
    IOU,
    MEAN,
    OTHER_ITEM,
    OTHER_PROMPT,
    OTHER_SEED,
    SAME,
    against_mean,
    agreements,
    means,
    other_items,
    over_controls,
    scores_of_pairs,
    unlike_words,
)
from bench.across.models import models_of
from bench.across.readings import Readings
from bench.across.transfer import OWN, averaged, transfers
from bench.registry import plugin
from bench.runs.results import Results
from datasets.grid import WHOLE, Grid
from datasets.labels import Labels
from extract.networks import INPUT, TRAINED
from probes.bootstrap import paired_difference
from probes.probe_set import ACTIVATIONS, Cell
from tests.bench.across.synthetic import run_of

ITEMS, SIDE, GRID = 12, 8, Grid(4, 4)
TASKS = {name: plugin("task", name) for name in ("saliency", "depth", "colour")}
CUT = 0.4


def labels(seed: int, count: int = ITEMS) -> Labels:
    """Random labels; masks are of whole tokens, which a reading can predict."""
    rng = np.random.default_rng(seed)
    tokens = rng.random((count, GRID.rows, GRID.columns)) < 0.3
    size = SIDE // GRID.rows
    return Labels(
        disparity=torch.from_numpy(rng.normal(size=(count, SIDE, SIDE))).float(),
        saliency=torch.from_numpy(tokens.repeat(size, 1).repeat(size, 2)),
        color=torch.from_numpy(rng.integers(0, 4, count)),
    )


def run_with_thresholds(name: str) -> Results:
    results = run_of(name, tasks=tuple(TASKS))
    cells = {task: [*_cells(task)] for task in TASKS}
    tasks = {
        task: replace(
            results.tasks[task],
            cells=tuple(cells[task]),
            thresholds=np.full(len(cells[task]), CUT if task == "saliency" else np.nan),
        )
        for task in TASKS
    }
    return replace(results, tasks=tasks)


def _cells(task: str) -> list[Cell]:
    grid = WHOLE if task == "colour" else GRID
    return [
        Cell(network, "mid", step, ACTIVATIONS, 0, grid)
        for network in (TRAINED, INPUT)
        for step in range(15)
    ]


def readings(name: str, own: Labels, seed: int, predictions: Labels | None = None) -> Readings:
    """Readings whose probes predict labels: the own ones and noise, or those of another model."""
    (model, _) = models_of([run_with_thresholds(name), run_of("sd_v1")])
    rng = torch.Generator().manual_seed(seed)
    read = {}
    for task, spec in TASKS.items():
        target = spec.target(predictions or own).double()
        for cell in _cells(task):
            size = target.shape[-1] // cell.grid.rows
            tokens = torch.nn.functional.avg_pool2d(target, size).flatten(2).mT
            noise = torch.randn(tokens.shape, generator=rng)
            # The latent says nothing; the activations say nothing at the first three steps.
            knows = cell.network == TRAINED and cell.step > 2
            read[task, cell] = tokens + 0.1 * noise if knows else noise
    items = tuple(map(str, range(ITEMS)))
    images = torch.zeros(ITEMS, 3, SIDE, SIDE, dtype=torch.uint8)
    return Readings(model, items, TASKS, images, own, labels(seed + 100), 1, read)


ONE, OTHER = readings("tiny", labels(1), 1), readings("mmdit_flow_0", labels(2), 2)


def dice(a: Tensor, b: Tensor) -> float:
    return float(f1_score(b.flatten(), a.flatten()))


def rank(a: Tensor, b: Tensor) -> float:
    return float(spearmanr(a.flatten(), b.flatten()).statistic)


def test_the_same_item_is_compared_pixel_by_pixel() -> None:
    pairs = range(ITEMS)
    masks, depths = (
        [(getattr(ONE.own, name)[i], getattr(OTHER.own, name)[i]) for i in pairs]
        for name in ("saliency", "disparity")
    )
    found = {name: means(scores_of_pairs(task, ONE, OTHER))[SAME] for name, task in TASKS.items()}
    assert found["saliency"] == pytest.approx([dice(a, b) for a, b in masks])
    assert found["depth"] == pytest.approx([rank(a, b) for a, b in depths])
    assert ONE.own.color is not None
    assert found["colour"].tolist() == (ONE.own.color == OTHER.own.color).double().tolist()


def test_intersection_over_union_is_that_of_scikit_learn() -> None:
    rows = {row.metric: row for row in agreements([ONE, OTHER]) if row.task == "saliency"}
    expected = [
        jaccard_score(OTHER.own.saliency[i].flatten(), ONE.own.saliency[i].flatten())
        for i in range(ITEMS)
    ]
    assert rows[IOU].scores[SAME].mean == pytest.approx(np.mean(expected))
    # Controls average several pairs of masks per item, and are no function of their mean Dice.
    pairs = [
        (a.own.saliency[item], b.own.saliency[order[item]])
        for a, b in ((ONE, OTHER), (OTHER, ONE))
        for order in other_items(ITEMS)
        for item in range(ITEMS)
    ]
    expected = [jaccard_score(b.flatten(), a.flatten(), zero_division=1.0) for a, b in pairs]
    assert rows[IOU].scores[OTHER_ITEM].mean == pytest.approx(np.mean(expected))
    assert rows["dice"].models == ("tiny", "mmdit_flow_0")


def test_controls_take_the_prompt_the_noise_or_neither() -> None:
    found = means(scores_of_pairs(TASKS["saliency"], ONE, OTHER))

    def both(second: str, row: int) -> float:
        """The mean of both directions; the image before has the prompt of row 4 and this seed."""
        pairs = ((ONE, OTHER), (OTHER, ONE))
        return float(
            np.mean([dice(a.own.saliency[5], getattr(b, second).saliency[row]) for a, b in pairs])
        )

    assert found[OTHER_SEED][5] == pytest.approx(both("reseeded", 5))
    assert found[OTHER_PROMPT][5] == pytest.approx(both("reseeded", 4))
    orders = [order[5] for order in other_items(ITEMS)]
    assert 5 not in orders
    assert len(set(orders)) == 5
    assert found[OTHER_ITEM][5] == pytest.approx(np.mean([both("own", row) for row in orders]))


def test_the_mean_of_the_others_leaves_the_item_out_and_takes_the_best_threshold() -> None:
    own = ONE.own.saliency.double()
    by_cut = []
    for cut in np.arange(1, 50) * 0.02:
        values = []
        for item in range(ITEMS):
            others = torch.cat([own[:item], own[item + 1 :]]).mean(0)
            values.append(dice(others > round(cut, 2), own[item].bool()))
        by_cut.append(values)
    expected = max(by_cut, key=np.mean)
    assert means(scores_of_pairs(TASKS["saliency"], ONE, ONE))[MEAN] == pytest.approx(expected)


def test_models_agree_where_their_labels_do_and_not_where_they_do_not() -> None:
    noisy = replace(ONE.own, disparity=ONE.own.disparity + 0.3 * OTHER.own.disparity)
    alike = readings("dit_noise_0", noisy, 3)
    rows = {row.models: row for row in agreements([ONE, OTHER, alike]) if row.task == "depth"}
    assert rows["tiny", "dit_noise_0"].holds
    assert rows["tiny", "dit_noise_0"].gain.mean > 0.5
    assert not rows["tiny", "mmdit_flow_0"].holds


def test_what_models_differ_in_is_named() -> None:
    assert unlike_words(ONE.model, OTHER.model) == "architecture, objective"
    names = ("mmdit_flow_0", "mmdit_flow_0_at_160")
    assert unlike_words(*models_of([run_of(name) for name in names])) == "training"


def test_probes_are_scored_on_the_pixels_of_the_other_models_labels() -> None:
    curves = {(x.reader, x.task, x.network): x for x in transfers([ONE, OTHER])}
    read = ONE.predictions["saliency", _cells("saliency")[7]][3, :, 0].reshape(4, 4)
    mask = (read > CUT).repeat_interleave(2, 0).repeat_interleave(2, 1)
    found = curves["tiny", "saliency", TRAINED]
    for label, expected in (
        (OWN, ONE.own.saliency[3]),
        (SAME, OTHER.own.saliency[3]),
        (OTHER_SEED, OTHER.reseeded.saliency[3]),
        (OTHER_PROMPT, OTHER.reseeded.saliency[2]),
    ):
        assert found.scores[label][7, 3] == pytest.approx(dice(mask, expected))
    mean = against_mean(TASKS["saliency"], OTHER)
    assert (found.scores[MEAN] == mean).all()
    for index, gain in enumerate(found.gain.mean):
        assert gain <= (found.scores[SAME][index] - mean).mean() + 1e-12
    depth = ONE.predictions["depth", _cells("depth")[7]][3, :, 0].reshape(4, 4)
    pixels = depth.repeat_interleave(2, 0).repeat_interleave(2, 1)
    expected = rank(pixels, OTHER.own.disparity[3])
    assert curves["tiny", "depth", TRAINED].scores[SAME][7, 3] == pytest.approx(expected)


def test_a_label_that_is_shared_is_found_from_the_step_on_at_which_it_is_read() -> None:
    """The first model's probes read what the other model will show, from step 4 on."""
    knowing = readings("tiny", labels(1), 1, predictions=OTHER.own)
    curves = {(x.reader, x.task, x.network): x for x in transfers([knowing, OTHER])}
    for task in ("saliency", "depth"):
        assert curves["tiny", task, TRAINED].shared_from == 3
        assert curves["tiny", task, INPUT].shared_from is None
        assert curves["mmdit_flow_0", task, TRAINED].shared_from is None


def test_pairs_are_averaged_per_item_at_equal_noise_levels() -> None:
    curves = transfers([ONE, OTHER])
    rows = averaged(curves, (-3.5,))
    pair, inputs = (
        [x for x in curves if (x.task, x.network) == ("depth", network)]
        for network in (TRAINED, INPUT)
    )
    for level, at in ((None, lambda y: y[0]), (-3.5, lambda y: (y[3] + y[4]) / 2)):
        (row,) = [r for r in rows if (r.task, r.network, r.log_snr) == ("depth", TRAINED, level)]
        expected = np.mean([at(x.scores[OWN]) for x in pair])
        assert (row.pairs, row.unlike) == (2, "any")
        assert row.scores[OWN].mean == pytest.approx(expected)
        latent = np.mean([at(x.scores[SAME]) for x in inputs], axis=0)
        same, item = (np.mean([at(x.scores[y]) for x in pair], axis=0) for y in (SAME, OTHER_ITEM))
        other = np.mean([at(x.scores[OTHER_ITEM]) for x in inputs], axis=0)
        assert row.over_latent is not None
        assert row.over_latent.mean == pytest.approx((same - latent).mean())
        assert row.gain_over_latent is not None
        assert row.gain_over_latent.mean == pytest.approx((same - item - latent + other).mean())


def test_a_gain_is_over_the_strongest_control_and_as_sure_as_the_least_sure_one() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=40)
    same = image + rng.normal(0.3, 0.1, 40)
    close, noisy = image + 0.1 + rng.normal(0, 0.1, 40), rng.normal(-0.2, 3, 40)
    values = {SAME: same, OTHER_SEED: close, OTHER_ITEM: noisy}
    alone = [paired_difference(same[None], values[x]) for x in (OTHER_SEED, OTHER_ITEM)]
    assert alone[0].p[0] < 0.01
    assert alone[1].p[0] > 0.05
    found = over_controls(values, (OTHER_SEED, OTHER_ITEM))
    assert found.mean[0] == alone[0].mean[0]
    assert found.p[0] == alone[1].p[0]
    # The other control could be as strong: the interval must not leave out zero.
    assert found.low[0] == alone[1].low[0] < 0
    assert found.high[0] == alone[0].high[0]
    sure = over_controls(values, (OTHER_SEED,))
    assert (sure.low[0], sure.p[0]) == (alone[0].low[0], alone[0].p[0])
