"""The leaderboard of a ledger: models by task, with tied groups, read from the entries alone.

Entries are compared in the best layer (chosen on training images) at one step, by default the
last, paired over the test items that they share. Ranks are not given. Entries that share a letter
do not differ significantly, at a false discovery rate of 5 % over all pairs and tasks of a group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tabulate import tabulate

from bench.config import FORMATS
from bench.errors import UserError
from bench.ledger.board import (
    BOARD_SCHEMA,
    Board,
    BoardEntry,
    BoardGroup,
    BoardPair,
    BoardTask,
    Point,
)
from bench.ledger.comparable import Group, grouped
from bench.ledger.entries import Entry, disagreements
from bench.ledger.layers import layer_letters
from bench.ledger.records import CellRecord
from bench.ledger.ties import compare, letters
from bench.options.validation import finite
from bench.report.tables import in_markdown
from extract.networks import TRAINED
from probes.multiple_testing import RATE
from probes.probe_set import ACTIVATIONS, WITH_POSITION
from probes.score import sign_of

BOARD, PAGE = "leaderboard.json", "leaderboard.md"


def leaderboard(
    entries: Sequence[Entry], across: Collection[str] = (), step: int | None = None
) -> Board:
    """Compare the entries of a ledger at a step (counted from 1; None is each one's last).

    Raises UserError when no entry has that step, and for an entry that was changed.
    """
    for entry in entries:
        faults, _ = disagreements(entry)
        if faults:
            raise UserError(
                f"{entry.path} was changed after its submission ({faults[0]}); check it with: "
                f"python -m bench verify {entry.path}"
            )
    if step is not None and not any(step in entry.record.steps for entry in entries):
        raise UserError(f"no entry of the ledger has step {step}; leave --step out for the last")
    return Board(
        schema=BOARD_SCHEMA,
        step=step,
        rate=RATE,
        groups=tuple(_group(group, step) for group in grouped(entries, across)),
    )


def _group(group: Group, step: int | None) -> BoardGroup:
    entries = group.entries
    ((found, compared, groups),) = compare(entries, [step])
    tasks = {name: tuple(tuple(sorted(m)) for m in members) for name, members in groups.items()}
    return BoardGroup(
        conditions=group.conditions,
        apart=group.apart,
        entries=tuple(
            _entry(
                entry,
                {
                    name: (table[n][0], letters(groups[name], n))
                    for name, table in found.items()
                    if n in table
                },
            )
            for n, entry in enumerate(entries)
        ),
        tied=tasks,
        pairs=tuple(
            BoardPair(
                task=pair.task,
                first=pair.first,
                second=pair.second,
                items=pair.items,
                gain=tuple(map(finite, (pair.gain.mean, pair.gain.low, pair.gain.high))),
                q=finite(pair.q),
                differs=pair.differs,
            )
            for pair in compared
        ),
    )


def _entry(entry: Entry, best: dict[str, tuple[CellRecord, str]]) -> BoardEntry:
    record, of_layers = entry.record, layer_letters(entry)
    return BoardEntry(
        entry=entry.name,
        model=record.model.name,
        revision=record.model.revision,
        dataset=record.dataset.name,
        test_items=len(record.items),
        engine=record.machine.engine,
        sampler=record.sampler.name,
        precision=record.machine.precision,
        tool=record.tool,
        caveats=record.caveats,
        layers=tuple(record.layers),
        tasks={
            name: BoardTask(
                metric=record.tasks[name].metric,
                higher_is_better=record.tasks[name].higher_is_better,
                unit=record.tasks[name].unit,
                score=_point(entry, cell),
                letters=tied_letters,
                curve=_points(entry, name, TRAINED, ACTIVATIONS, best_only=True),
                with_position=_points(entry, name, TRAINED, WITH_POSITION, best_only=True),
                by_layer=tuple(
                    point.model_copy(update={"letters": of_layers[name][point.layer]})
                    for point in _points(entry, name, TRAINED, ACTIVATIONS, best_only=False)
                    if point.step == record.steps[-1]
                ),
                controls=tuple(
                    _point(entry, cell)
                    for cell in record.tasks[name].cells
                    if (cell.network, cell.probe) not in _OF_MODEL
                ),
            )
            for name, (cell, tied_letters) in best.items()
        },
    )


_OF_MODEL = ((TRAINED, ACTIVATIONS), (TRAINED, WITH_POSITION))


def _points(
    entry: Entry, task: str, network: str, probe: str, best_only: bool
) -> tuple[Point, ...]:
    cells = [
        cell
        for cell in entry.record.tasks[task].cells
        if (cell.network, cell.probe) == (network, probe) and (cell.best or not best_only)
    ]
    return tuple(_point(entry, cell) for cell in sorted(cells, key=lambda cell: cell.step))


def _point(entry: Entry, cell: CellRecord) -> Point:
    sampler = entry.record.sampler
    noise = sampler.log_snr[cell.step - 1] if cell.step else None
    return Point(
        network=cell.network,
        layer=cell.layer,
        probe=cell.probe,
        draw=cell.draw,
        step=cell.step,
        log_snr=noise,
        mean=cell.mean,
        low=cell.low,
        high=cell.high,
    )


def lines(board: Board, form: str = FORMATS[0], layers: bool = False) -> list[str]:
    """Return the leaderboard as lines for a terminal, or as Markdown, on demand by layer too."""
    said: list[str] = []
    for group in board.groups:
        if group.apart:
            said += ["", _text(f"kept apart: {group.apart}", form), ""]
        rows = [_row(entry, group, form) for entry in ordered(group)]
        said += [tabulate(rows, headers="keys", tablefmt=form, disable_numparse=True)]
        said += ["", _text(explained(board, group), form)]
        for entry in ordered(group) if layers else ():
            said += ["", _text(f"{name_of(entry)}, layers at the last step", form), ""]
            said += [tabulate(list(layer_rows(entry, form)), headers="keys", tablefmt=form)]
            said += [
                "",
                _text("layers of a model that share a letter do not differ significantly", form),
            ]
    return said


def layer_rows(entry: BoardEntry, form: str = FORMATS[0]) -> Iterator[dict[str, str]]:
    """Yield a row per layer of an entry, with its scores at the last step and their letters."""
    points = {name: {p.layer: p for p in task.by_layer} for name, task in entry.tasks.items()}
    for layer in entry.layers:
        row = {"layer": layer}
        for name, by_layer in points.items():
            point = by_layer.get(layer)
            row[name] = "-" if point is None else f"{span(point)} {point.letters}"
        yield row if form == FORMATS[0] else {k: in_markdown(value) for k, value in row.items()}


def name_of(entry: BoardEntry) -> str:
    """Return the model with the beginning of its revision."""
    return f"{entry.model} ({entry.revision[:6]})"


def title_of(name: str, task: BoardTask) -> str:
    """Return a task with its metric, the unit, and which direction is better."""
    unit = f" ({task.unit})" if task.unit else ""
    return f"{name}: {task.metric}{unit}{'' if task.higher_is_better else ', lower is better'}"


def ordered(group: BoardGroup) -> list[BoardEntry]:
    """Sort entries by their tied groups, task after task, then by their means."""

    places = {entry.entry: number for number, entry in enumerate(group.entries)}

    def key(entry: BoardEntry) -> tuple[tuple[list[int], float], ...]:
        keys = []
        for name, groups in group.tied.items():
            task = entry.tasks.get(name)
            if task is None or task.score.mean is None:
                keys.append(([len(groups)], 0.0))
            else:
                number = places[entry.entry]
                own = [place for place, members in enumerate(groups) if number in members]
                keys.append((own, -sign_of(task.higher_is_better) * task.score.mean))
        return tuple(keys)

    return sorted(group.entries, key=key)


def _row(entry: BoardEntry, group: BoardGroup, form: str) -> dict[str, str]:
    row = {"model": name_of(entry)}
    for name in group.tied:
        task = entry.tasks.get(name)
        title = title_of(name, next(e.tasks[name] for e in group.entries if name in e.tasks))
        row[title] = "-" if task is None else f"{span(task.score)} {task.letters}"
        row[f"{name}: layer"] = "-" if task is None else task.score.layer
    row |= {"test items": str(entry.test_items), "engine": entry.engine}
    return row if form == FORMATS[0] else {k: in_markdown(value) for k, value in row.items()}


def span(point: Point) -> str:
    """Return a score with its interval."""
    if point.mean is None:
        return "undefined"
    ends = ("?" if end is None else f"{end:.3f}" for end in (point.low, point.high))
    return f"{point.mean:.3f} [{', '.join(ends)}]"


def explained(board: Board, group: BoardGroup) -> str:
    """Return what the scores and letters of a group mean."""
    step = "the last step" if board.step is None else f"step {board.step}"
    scores = f"the best layer at {step}, 95 % intervals over test items"
    if not group.tied:
        return f"no entry of this group has step {board.step}"
    if not group.pairs:
        return f"{scores}; a single entry, so nothing is compared"
    differing = sum(pair.differs for pair in group.pairs)
    return (
        f"{scores}; entries that share a letter do not differ significantly: {differing} of "
        f"{len(group.pairs)} pairs differ, paired over shared items, at a false discovery rate of "
        f"{100 * board.rate:.0f} %"
    )


def _text(line: str, form: str) -> str:
    return line if form == FORMATS[0] else in_markdown(line)
