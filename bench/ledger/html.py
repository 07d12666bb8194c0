"""The page of a ledger: models by task with tied groups, filters, and curves over the log-SNR."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from math import isclose, log
from pathlib import Path
from typing import Any

from bench.config import COMMAND
from bench.figures.charts import (
    NOISE,
    STEP,
    STYLES,
    Line,
    curve_chart,
    drawing_script,
    legend,
    svg,
)
from bench.ledger.board import Board, BoardEntry, BoardGroup, BoardTask, Point
from bench.ledger.entries import Entry
from bench.ledger.leaderboard import (
    explained,
    layer_rows,
    name_of,
    ordered,
    span,
    title_of,
)
from bench.ledger.records import SamplerRecord
from bench.ledger.ties import compare, letters
from bench.report.templates import asset, template
from probes.bootstrap import Score

_SCRIPTS = ("charts.js", "board.js")
_TOLERANCE = 1e-3
"""Of a log-SNR."""
_NAMED = 2
"""Tasks whose best models the opening names."""


def board_page(board: Board, entries: Sequence[Entry]) -> str:
    """Return the page as HTML; ``entries`` are those of the board."""
    by_name = {entry.name: entry for entry in entries}
    tasks = _tasks(board)
    names = curve_names(board)
    return template("board.html.jinja").render(
        style=asset("style.css") + asset("board.css"),
        scripts=[drawing_script(), *map(asset, _SCRIPTS)],
        data=_data(board, by_name, names),
        opening=opening(board),
        title="scenebench: leaderboard",
        step="the last step" if board.step is None else f"step {board.step}",
        steps=_steps(board),
        tasks={name: title_of(name, task) for name, task in tasks.items()},
        families=sorted({family_of(entry.record.layers) for entry in entries}),
        objectives=sorted({objective_of(entry.record.sampler) for entry in entries}),
        groups=[_group(board, group, by_name) for group in board.groups],
        figures=[_figure(board, name, names) for name in tasks],
    )


def family_of(layers: Mapping[str, str]) -> str:
    """The kind of denoiser that has such paths of tapped modules."""
    paths = list(layers.values())
    if any(path.startswith(("down_blocks", "mid_block", "up_blocks")) for path in paths):
        return "UNet"
    if any(".attn." in path for path in paths):
        return "transformer, joint attention"
    return "transformer, cross-attention"


def objective_of(sampler: SamplerRecord) -> str:
    """What a model was trained for, by how its latents mix image and noise.

    Of a rectified flow they are (1 - sigma) image + sigma noise, whatever sampler it has.
    """
    if sampler.name.startswith("FlowMatch"):
        return "rectified flow"
    levels = zip(sampler.sigmas, sampler.log_snr, strict=True)
    mixed = [(sigma, level) for sigma, level in levels if level is not None and 0 < sigma < 1]
    is_flow = bool(mixed) and all(
        isclose(level, 2 * log((1 - sigma) / sigma), abs_tol=_TOLERANCE) for sigma, level in mixed
    )
    return "rectified flow" if is_flow else "diffusion"


def opening(board: Board) -> list[str]:
    """Return what the leaderboard shows, in three sentences."""
    entries = sum(len(group.entries) for group in board.groups)
    tasks = list(_tasks(board))
    # At a step that is asked for, a group may have no entry.
    first = next(group for group in board.groups if group.tied)
    at = "At the last step" if board.step is None else f"At step {board.step}"
    apart = len(board.groups) - 1
    kept = "all can be compared"
    if apart:
        at += f" (table {board.groups.index(first) + 1} of {len(board.groups)})"
        kept = (
            f"{_count(apart, 'group is', 'groups are')} kept apart from the others (reasons below)"
        )
    pairs = [pair for group in board.groups for pair in group.pairs]
    differing = sum(pair.differs for pair in pairs)
    rate = f"a false discovery rate of {100 * board.rate:.0f} %"
    return [
        f"{_count(entries, 'entry has', 'entries have')} scores in {_count(len(tasks), 'task')} "
        f"({', '.join(tasks)}); {kept}.",
        f"{at}, {'; '.join(_leaders(first, name) for name in list(first.tied)[:_NAMED])}.",
        f"{differing} of {_count(len(pairs), 'pair')} of comparable entries differ at {rate}, "
        "paired over the test items that both have."
        if pairs
        else "No two entries can be compared with each other, so there is no ranking.",
    ]


def _leaders(group: BoardGroup, task: str) -> str:
    best = [group.entries[number] for number in group.tied[task][0]]
    scores = [f"{name_of(entry)} {span(entry.tasks[task].score)}" for entry in best]
    metric = best[0].tasks[task].metric
    if len(group.tied[task]) == 1 and len(best) == len(_with_task(group, task)) > 1:
        return f"no entry stands out for {task} ({metric}: {', '.join(scores)})"
    verb = "leads" if len(best) == 1 else "share the first place"
    if len(_with_task(group, task)) == 1:
        return f"{scores[0]} ({metric}) is the only comparable entry for {task}"
    return f"{' and '.join(scores)} {verb} for {task} ({metric})"


def _with_task(group: BoardGroup, task: str) -> list[BoardEntry]:
    return [entry for entry in group.entries if task in entry.tasks]


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _tasks(board: Board) -> dict[str, BoardTask]:
    """The tasks of all entries, each as in one of them."""
    return {
        name: task
        for group in board.groups
        for entry in group.entries
        for name, task in entry.tasks.items()
    }


def _steps(board: Board) -> list[int]:
    return sorted(
        {
            point.step
            for group in board.groups
            for entry in group.entries
            for task in entry.tasks.values()
            for point in task.curve
        }
    )


def _group(board: Board, group: BoardGroup, by_name: Mapping[str, Entry]) -> dict[str, Any]:
    return {
        "apart": group.apart,
        "explained": explained(board, group),
        "conditions": group.conditions,
        "tasks": list(group.tied),
        "rows": [_row(entry, by_name[entry.entry]) for entry in ordered(group)],
    }


def _row(entry: BoardEntry, stored: Entry) -> dict[str, Any]:
    return {
        "entry": entry,
        "name": name_of(entry),
        "family": family_of(stored.record.layers),
        "objective": objective_of(stored.record.sampler),
        "scores": {
            name: (span(task.score), task.letters, task.score.layer)
            for name, task in entry.tasks.items()
        },
        "layers": list(layer_rows(entry)),
        "verify": f"{COMMAND} verify {shlex.quote(_path(stored.path))}",
    }


def _path(path: Path) -> str:
    """The path of an entry as a reader would type it."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def _data(board: Board, by_name: Mapping[str, Entry], names: Mapping[str, str]) -> dict[str, Any]:
    """What ``static/board.js`` reads."""
    tied: dict[str, dict[str, dict[int, str]]] = {}
    for group in board.groups:
        members = [by_name[entry.entry] for entry in group.entries]
        steps = _steps(board)
        for step, (found, _, groups) in zip(steps, compare(members, steps), strict=True):
            for name, table in found.items():
                for number in table:
                    of_task = tied.setdefault(members[number].name, {}).setdefault(name, {})
                    of_task[step] = letters(groups[name], number)
    return {
        "entries": {
            entry.entry: {
                "curve": names[entry.entry],
                "scores": {
                    name: {
                        point.step: [
                            span(point),
                            tied.get(entry.entry, {}).get(name, {}).get(point.step, ""),
                            point.layer,
                        ]
                        for point in task.curve
                    }
                    for name, task in entry.tasks.items()
                },
            }
            for group in board.groups
            for entry in group.entries
        },
        "charts": {
            name: {along: _chart(board, name, names, along) for along in (STEP, NOISE)}
            for name in _tasks(board)
        },
    }


def curve_names(board: Board) -> dict[str, str]:
    """Entry -> the name of its curve; entries of one model are numbered."""
    names: dict[str, str] = {}
    for group in board.groups:
        for entry in group.entries:
            name, number = name_of(entry), 2
            while name in names.values():
                name, number = f"{name_of(entry)}, entry {number}", number + 1
            names[entry.entry] = name
    return names


def _lines(board: Board, task: str, names: Mapping[str, str]) -> list[Line]:
    styles = list(STYLES)
    return [
        Line(
            names[entry.entry],
            styles[list(names).index(entry.entry) % len(styles)],
            [(point.step, _score(point)) for point in entry.tasks[task].curve],
            {point.step: point.log_snr for point in entry.tasks[task].curve},
        )
        for group in board.groups
        for entry in group.entries
        if task in entry.tasks
    ]


def _score(point: Point) -> Score:
    mean, low, high = (
        float("nan") if value is None else value for value in (point.mean, point.low, point.high)
    )
    return Score(mean, low, high)


def _chart(board: Board, task: str, names: Mapping[str, str], along: str) -> dict[str, Any]:
    steps = _steps(board)
    title = title_of(task, _tasks(board)[task])
    return curve_chart(_lines(board, task, names), steps, [None] * len(steps), title, along)


def _figure(board: Board, task: str, names: Mapping[str, str]) -> dict[str, Any]:
    label = f"{title_of(task, _tasks(board)[task])}, the best layer of each step"
    return {
        "task": task,
        "label": label,
        "svg": svg(_chart(board, task, names, NOISE), label),
        "legend": legend(_lines(board, task, names)),
    }
