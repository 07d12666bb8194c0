"""Records of made-up interventions, written into a run folder as the experiments write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from bench.interventions.arms import (
    CONTROLNET,
    CONTROLS,
    EDIT,
    LATE,
    NULL,
    PERMUTED,
    RANDOM,
    UNMOVED,
)
from bench.interventions.config import Plan
from bench.interventions.grid import GRID, Grid
from bench.interventions.records import (
    AREA_RATIO,
    ATTRIBUTES,
    DAMAGE,
    MAPS,
    SCHEMA,
    SUMMARY,
    ArmRecord,
    AttributeRecord,
    AttributeTable,
    ChosenEdit,
    Contest,
    Curve,
    Interval,
    MapRecord,
    Summary,
    task_folder,
    write_record,
)

METHODS = ("weights", "pattern", CONTROLNET)
STRENGTHS = {"weights": (4.0, 8.0), "pattern": (4.0, 8.0, 16.0), CONTROLNET: (0.5, 1.0)}
CHOSEN = {"weights": 8.0, "pattern": 8.0, CONTROLNET: 1.0}
BLOCKS, WINDOWS = ("mid", "up2", "up3"), ((1, 2, 3), (4,))
NAMES = ("colour", "light")


def around(mean: float, half: float = 0.04) -> Interval:
    return mean, mean - half, mean + half


def gain_of(method: str, strength: float) -> float:
    """Rises up to the chosen strength; that of weights is within its interval."""
    most = {"weights": 0.03, "pattern": 0.3, CONTROLNET: 0.5}[method]
    return most * min(strength / CHOSEN[method], CHOSEN[method] / strength)


def damage_of(method: str, strength: float) -> float:
    return 0.08 * strength / max(STRENGTHS[method])


def _arm(method: str, strength: float) -> ArmRecord:
    gain = gain_of(method, strength)
    gains = {NULL: around(gain), RANDOM: around(gain - 0.01)}
    if strength == CHOSEN[method]:
        other = UNMOVED if method == CONTROLNET else PERMUTED
        gains |= {other: around(gain - 0.005), LATE: around(gain - 0.004)}
    return ArmRecord(
        method=method,
        control=EDIT,
        strength=strength,
        layers=("up2.1",),
        steps=(1, 2),
        scores=_scores(0.2 + gain, damage_of(method, strength)),
        gains=gains,
        visible=dict.fromkeys(gains, 0.0625),
    )


def _scores(shifted: float, damage: float) -> dict[str, Interval]:
    return {
        "dice_shifted": around(shifted),
        "dice_original": around(1 - shifted),
        DAMAGE: around(damage, 0.006),
        AREA_RATIO: around(1.0),
    }


def made_summary(items: Sequence[str], task: str = "saliency", target: str = "shifted") -> Summary:
    plan = Plan(
        task=task,
        target=target,
        methods=METHODS,
        strengths=STRENGTHS["pattern"],
        controlnet_strengths=STRENGTHS[CONTROLNET],
        layers=("up2.1",),
        steps=(1, 2),
        late_steps=(4,),
        controls=CONTROLS,
        grids=(("weights", STRENGTHS["weights"]),),
    )
    arms = [
        _arm(method, strength) for method in METHODS for strength in reversed(STRENGTHS[method])
    ]
    before = ArmRecord(
        method=NULL, control=NULL, strength=0.0, layers=(), steps=(), scores=_scores(0.2, 0.0)
    )
    curves = [
        Curve(
            method=method,
            strengths=strengths,
            damages=plan.damages,
            damage=tuple(damage_of(method, strength) for strength in strengths),
            score=tuple(0.2 + gain_of(method, strength) for strength in strengths),
            reached=(0.75, 0.25),
            random_reached=(0.5, 0.05),
            effects=tuple(around(gain_of(method, strengths[0]) + x) for x in (0.0, 0.1, 0.05)),
            over_random=tuple(around(gain_of(method, strengths[0]) - x) for x in (0.01, 0.02, 0.0)),
        )
        for method, strengths in STRENGTHS.items()
    ]
    return Summary(
        schema=SCHEMA,
        task=task,
        headline="dice_shifted",
        higher_is_better=True,
        plan=plan,
        test_items=tuple(items),
        prompts=tuple(f"scene {item}" for item in items),
        choose_items=("c", "d"),
        chosen=ChosenEdit(
            method="pattern", strength=CHOSEN["pattern"], layers=("up2.1",), steps=(1, 2)
        ),
        choice=(),
        arms=(before, *arms),
        curves=tuple(curves),
        contests=(
            Contest(first="weights", second="pattern", effects=(around(-0.1),) * 3),
            Contest(first="pattern", second=CONTROLNET, effects=(around(-0.2),) * 3),
        ),
        seconds_per_trial=0.5,
        seconds_by_method=dict.fromkeys(METHODS, 0.5),
    )


def made_grid(count: int) -> Grid:
    """Bright images before and dark ones after, and squares that move to the right."""
    masks = np.zeros((3, count, 1, 16, 16), np.float32)
    for number, left in enumerate((2, 9, 7)):
        masks[number, ..., 4:9, left : left + 5] = 1
    before = np.full((count, 3, 16, 16), 250, np.uint8)
    before[:, 0] -= np.arange(count, dtype=np.uint8)[:, None, None]
    return Grid(before, masks[0], masks[1], np.full_like(before, 10), masks[2])


def made_maps() -> MapRecord:
    values = np.arange(6).reshape(3, 2) / 10
    return MapRecord(
        task="saliency",
        method="pattern",
        strength=8.0,
        items=4,
        shifts=1,
        blocks=BLOCKS,
        windows=WINDOWS,
        reading=tuple(tuple(around(float(value)) for value in row) for row in values),
        acting=tuple(tuple(around(float(-value)) for value in row) for row in values),
        correlation=(-0.25, -0.75, 0.5),
        correlation_bias=0.01,
    )


def made_attributes() -> AttributeTable:
    return AttributeTable(
        change=0.1,
        layers=("up2.1",),
        steps=(1, 2),
        items=4,
        entries=tuple(
            AttributeRecord(
                edited=edited,
                measured=measured,
                method=method,
                share=around(0.85 if edited == measured else 0.15),
                random=around(0.35 if edited == measured else 0.05),
                gain=around(0.5 if edited == measured else 0.1),
                strength=8.0,
                p=0.02 if edited == measured else 0.3,
                q=0.03 if edited == measured else 0.4,
                reached=1.0 if edited == measured else 0.75,
                random_reached=1.0,
                hit=edited == measured,
            )
            for method in ("means", "weights", "pattern")
            for edited in NAMES
            for measured in NAMES
        ),
    )


def write_summary(run: Path, summary: Summary, grid: Grid | None = None) -> None:
    folder = task_folder(run, summary.plan.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).write_text(summary.text(), encoding="utf-8")
    if grid:
        save_file(grid.tensors(), folder / f"{GRID}.safetensors")


def write_all(run: Path, items: Sequence[str] = ("a", "b", "c")) -> None:
    """Two experiments, the maps of one of them, and the matrix of attributes."""
    for summary in (made_summary(items), made_summary(items, "depth", "farther")):
        write_summary(run, summary, made_grid(len(items)))
    write_record(made_maps(), task_folder(run, "saliency") / MAPS)
    write_record(made_attributes(), task_folder(run, ATTRIBUTES) / f"{ATTRIBUTES}.json")
