"""Every claim: its three verdicts from synthetic scores, and what it says without evidence."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.interventions.config import Plan
from bench.interventions.records import SCHEMA, ArmRecord, ChosenEdit, Summary, task_folder
from bench.registry import plugin, plugins
from bench.runs.results import Results
from bench.verdicts.check import check
from bench.verdicts.claim import LEAST
from probes.probe_set import ACTIVATIONS, CEILING, PERMUTED, POSITION, WITH_POSITION, Cell
from tests.synthetic_run import Quality, made_run, quality

BLOCKS = ("block0", "block1", "block2", "block3")
Runs = Callable[[Path], Sequence[Results]]


def changed(change: Callable[[str, Cell], float | None]) -> Quality:
    """The default qualities, but where ``change`` returns one."""

    def of(task: str, cell: Cell) -> float:
        value = change(task, cell)
        return quality(task, cell) if value is None else value

    return of


def trained(value: float, *steps: int, probe: str | None = None) -> Quality:
    """The trained network's probes of true labels have another quality at some steps."""
    return changed(
        lambda _, cell: (
            value
            if cell.network == "trained"
            and cell.probe != PERMUTED
            and cell.step in steps
            and probe in (None, cell.probe)
            else None
        )
    )


def network(name: str, value: float) -> Quality:
    """Another network has another quality."""
    return changed(lambda _, cell: value if cell.network == name else None)


def decoder(late: float) -> Quality:
    """The decoder has another quality at the last step."""
    return changed(lambda _, cell: late if (cell.network, cell.step) == ("vae", 14) else None)


def own(value: float) -> Quality:
    return changed(lambda _, cell: value if cell.network.startswith("own") else None)


def peak(value: float, at: int) -> Quality:
    """The trained network's quality at one step; elsewhere it is 0.5."""
    return changed(
        lambda _, cell: (value if cell.step == at else 0.5) if cell.network == "trained" else None
    )


def middle(value: float) -> Quality:
    """The middle layer at early steps, but not the first, has another quality."""
    return changed(
        lambda _, cell: (
            value
            if (cell.network, cell.layer, cell.probe) == ("trained", "mid", ACTIVATIONS)
            and 0 < cell.step <= 7
            else None
        )
    )


def one(of: Quality = quality, **options: object) -> Runs:
    return lambda path: [made_run(of, path=path, **options)]


def two(of: Quality) -> Runs:
    """Two UNets, of which the second is as the claim says."""
    return lambda _: [
        made_run(of, layers=("down0", "down1", "mid", "up0", "up1")),
        made_run(middle(0.9), layers=("down0", "down1", "mid", "up0", "up1"), model="dit_noise_0"),
    ]


def matched(transformer: float) -> Runs:
    """A UNet with 0.8 below the ceiling of 0.9, and a transformer."""
    return lambda _: [
        made_run(),
        made_run(network("trained", transformer), layers=BLOCKS, model="dit_noise_0"),
    ]


def edits(edit: float, random: float, late: float) -> Runs:
    """A run with an experiment in which the unedited image scores 0.2."""

    def runs(path: Path) -> Sequence[Results]:
        write_experiment(path, {"null": 0.2, "edit": edit, "random": random, "late": late})
        return [made_run(path=path)]

    return runs


def write_experiment(run: Path, means: dict[str, float], items: int = 40) -> None:
    """Write the files of an experiment whose arms have these mean scores, with two shifts each."""
    rng = np.random.default_rng(0)
    folder = task_folder(run, "saliency")
    folder.mkdir(parents=True)
    rows, arms = [], []
    for control, mean in means.items():
        method, strength = ("null", 0.0) if control == "null" else ("pattern", 4.0)
        for item in range(items):
            for shift in (1, 2):
                score = rng.normal(mean + 0.05 * np.sin(item), 0.03)
                rows.append(
                    {
                        "item": str(item),
                        "shift": shift,
                        "method": method,
                        "control": control,
                        "strength": strength,
                        "dice_shifted": f"{score:.6g}",
                    }
                )
        # Another strength of the same method, which was not chosen.
        rows.append(rows[-1] | {"strength": 16.0 if control != "null" else 0.0})
        span = (mean, mean, mean)
        names = ("dice_shifted", "dice_original", "damage", "area_ratio")
        arms.append(
            ArmRecord(
                method=method,
                control=control,
                strength=strength,
                layers=("up0",),
                steps=(1,),
                scores=dict.fromkeys(names, span),
                gains={"null": span} if control == "edit" else None,
            )
        )
    with (folder / "trials.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = Summary(
        schema=SCHEMA,
        task="saliency",
        headline="dice_shifted",
        higher_is_better=True,
        plan=Plan(),
        test_items=tuple(map(str, range(items))),
        choose_items=("a", "b"),
        chosen=ChosenEdit(method="pattern", strength=4.0, layers=("up0",), steps=(1,)),
        choice=(),
        arms=tuple(arms),
        seconds_per_trial=0.1,
    )
    (folder / "summary.json").write_text(summary.text(), encoding="utf-8")


HALF = changed(lambda _, cell: {"trained": 1 - np.sqrt(0.5), "input": 0.1}.get(cell.network))
"""The trained network explains exactly half of the coordinates' variance, the latent less."""
CLASSES = {"tasks": ("colour", "shape"), "source": "rendered"}
COORDINATES = {"tasks": ("coordinates",)}
EQUAL = 0.3 + LEAST
"""Exactly the least that exceeds a control of 0.3."""

CASES: dict[str, tuple[Runs, Runs, Runs]] = {
    "readable_by_step_5": (
        one(),
        one(trained(0.1, 4)),
        one(trained(EQUAL, 4, probe=WITH_POSITION)),
    ),
    "settled_by_step_5": (
        one(),
        one(trained(0.5, 4)),
        one(trained(0.3 + 0.9 * 0.5, 4)),
    ),
    "decoded_image_is_too_noisy": (
        one(),
        one(network("decoded", 0.9)),
        one(network("decoded", 0.8 - LEAST)),
    ),
    "random_networks_lack_it": (one(), one(own(0.9)), one(own(0.8 - LEAST))),
    "decoder_is_weak_early": (one(), one(decoder(0.1)), one(decoder(0.2 + LEAST))),
    "attention_holds_more_than_convolutions": (
        one(),
        one(network("convolution", 0.81)),
        one(network("convolution", 0.8 - LEAST)),
    ),
    "edits_move_the_object": (
        edits(0.7, 0.4, 0.2),
        edits(0.3, 0.4, 0.2),
        edits(0.4 + LEAST, 0.4, 0.2),
    ),
    "early_edits_set_the_layout": (
        edits(0.7, 0.4, 0.2),
        edits(0.3, 0.2, 0.4),
        edits(0.4 + LEAST, 0.2, 0.4),
    ),
    "layout_in_the_first_step": (one(), one(trained(0.2, 0)), one(trained(EQUAL, 0))),
    "position_is_linear": (
        one(**COORDINATES),
        one(trained(0.2, *range(15)), **COORDINATES),
        one(HALF, **COORDINATES),
    ),
    "middle_layers_hold_3d": (two(middle(0.9)), two(middle(0.7)), two(middle(0.8))),
    "quality_peaks_between": (
        one(peak(0.7, 6), **CLASSES),
        one(peak(0.7, 14), **CLASSES),
        one(peak(0.5, 6), **CLASSES),
    ),
    "transformers_are_less_local": (matched(0.6), matched(0.85), matched(0.8)),
}
VERDICTS = ("holds", "fails", "undecided")


def test_every_claim_has_a_case() -> None:
    assert set(CASES) == set(plugins("claim"))
    assert len(CASES) >= 12


@pytest.mark.parametrize("place", range(3), ids=VERDICTS)
@pytest.mark.parametrize("name", CASES)
def test_scores_decide(name: str, place: int, tmp_path: Path) -> None:
    runs = CASES[name][place](tmp_path)
    (checked,) = check({name: plugin("claim", name)}, runs)
    assert checked.lacks == ""
    assert checked.effects
    assert checked.verdict == VERDICTS[place], [str(effect) for effect in checked.effects]


@pytest.mark.parametrize("name", CASES)
def test_a_run_without_what_a_claim_needs_leaves_it_undecided(name: str, tmp_path: Path) -> None:
    bare = made_run(tasks=("shadow",), path=tmp_path)
    (checked,) = check({name: plugin("claim", name)}, [bare])
    assert checked.verdict == "undecided"
    assert checked.effects == ()
    assert checked.lacks
    assert ". " not in checked.lacks


@pytest.mark.parametrize("name", sorted(plugins("claim")))
def test_a_claim_says_where_it_stands_and_how_it_is_tested(name: str) -> None:
    claim = plugin("claim", name)
    assert claim.source
    assert claim.sentence.endswith(".")
    assert len(str(claim.test.__doc__).splitlines()) > 2


def test_step_5_of_another_sampler_is_another_noise_level() -> None:
    (checked,) = check({"x": plugin("claim", "readable_by_step_5")}, [made_run(sampler_steps=28)])
    assert (checked.verdict, checked.lacks) == ("undecided", "a run with --sampler-steps 15")


def test_a_claim_about_random_networks_needs_three_of_them() -> None:
    results = made_run()
    networks = tuple(name for name in results.record.networks if name not in ("own-2", "own-3"))
    fewer = replace(results, record=results.record.model_copy(update={"networks": networks}))
    (checked,) = check({"x": plugin("claim", "random_networks_lack_it")}, [fewer])
    assert checked.lacks == "a run with --baselines own --random-networks 3"


def test_the_spread_of_random_networks_counts() -> None:
    """One of three networks holds as much as the trained one, so the three do not lack it."""
    spread = changed(lambda _, cell: {"own-1": 0.8, "own-2": 0.3, "own-3": 0.3}.get(cell.network))
    (checked,) = check({"x": plugin("claim", "random_networks_lack_it")}, [made_run(spread)])
    assert checked.verdict == "undecided"


def test_position_alone_that_scores_as_well_refutes_readability() -> None:
    results = made_run(network(POSITION, 0.9))
    (checked,) = check({"x": plugin("claim", "readable_by_step_5")}, [results])
    assert checked.verdict == "fails"


def test_a_coarse_grid_is_no_lack_of_locality() -> None:
    """The shortfall is measured from the ceiling of the grid, so a lower ceiling changes it."""
    low = changed(
        lambda _, cell: 0.8 if cell.network == CEILING or cell.network == "trained" else None
    )
    runs = [made_run(), made_run(low, layers=BLOCKS, model="dit_noise_0")]
    (checked,) = check({"x": plugin("claim", "transformers_are_less_local")}, runs)
    assert checked.verdict == "fails"
