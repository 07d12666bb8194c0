"""Write a comparison across models: Markdown, CSV, JSON, and figures where matplotlib is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bench.across.agreement import MEAN, OTHER_ITEM, OTHER_SEED, SAME
from bench.across.comparison import Across
from bench.across.contrasts import Reading, best_of
from bench.across.document import DOCUMENT, FIGURE, SHEET, document
from bench.across.rows import tables
from bench.across.transfer import ANY, FIRST, OWN
from bench.errors import UserError
from bench.figures.across_models import (
    LevelLine,
    LevelPanel,
    draw_levels,
    lines_of,
    scenes_sheet,
)
from bench.figures.images import save_image
from bench.figures.plots import DPI
from datasets.atomic_write import atomic_write, write_csv
from extract.networks import INPUT, TRAINED
from probes.probe_set import ACTIVATIONS, WITH_POSITION

SCHEMA = 1
"""Version of ``across.json``, which no command reads."""
_SHOWN = 10
"""Items on the sheet of images."""
_OF_MAPS = ("saliency", "depth")
_APART = 2.0
"""Between the first step and the first noise level in the figure."""


def write_across(result: Across, folder: Path, command: str) -> list[Path]:
    """Write every file and return their paths. Raises UserError where one cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures = _figures(result, folder)
        found = tables(result)
        for name in (*(f"{name}.csv" for name, rows in found.items() if not rows), SHEET, FIGURE):
            # Of an earlier call with other options.
            if folder / name not in figures:
                (folder / name).unlink(missing_ok=True)
        paths = [_csv(folder / f"{name}.csv", rows) for name, rows in found.items() if rows]
        text = json.dumps(
            {"schema": SCHEMA, "command": command, **found}, indent=1, allow_nan=False
        )
        paths.append(_text(folder / "across.json", text + "\n"))
        names = [path.name for path in figures]
        paths.append(_text(folder / DOCUMENT, document(result, command, names)))
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error}); choose another --out") from error
    return [*paths, *figures]


def _csv(path: Path, rows: list[dict[str, str | float | int | bool | None]]) -> Path:
    write_csv(path, list(rows[0]), rows)
    return path


def _text(path: Path, text: str) -> Path:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _figures(result: Across, folder: Path) -> list[Path]:
    paths = []
    if result.readings:
        images = {
            readings.model.name: list(readings.images[:_SHOWN].numpy())
            for readings in result.readings
        }
        paths.append(save_image(scenes_sheet(images), folder / SHEET))
    # The figure needs the extra; everything else does not.
    if find_spec("matplotlib") is not None:
        figure = draw_levels([*_score_panels(result), *_sharing_panels(result)])
        with atomic_write(folder / FIGURE) as partial:
            figure.savefig(partial, format="png", dpi=DPI // 2)
        paths.append(folder / FIGURE)
    return paths


def _score_panels(result: Across) -> Iterator[LevelPanel]:
    shared = result.shared
    available = {point.reading for point in result.points}
    names = [name for name in _OF_MAPS if name in shared.tasks] or shared.tasks[:2]
    for name in names:
        with_position = Reading(name, WITH_POSITION)
        reading = with_position if with_position in available else Reading(name, ACTIVATIONS)
        lines = []
        for model in shared.models:
            best = best_of(shared, model, reading)
            levels, scores = lines_of(best.log_snr, best.scores.T)
            lines.append(LevelLine(model.name, levels, scores, model.objective))
        task = shared.models[0].results.tasks[name]
        better = "higher" if task.higher_is_better[0] else "lower"
        yield LevelPanel(f"{reading}: best layer", f"{task.headline}, {better} is better", lines)


def _sharing_panels(result: Across) -> Iterator[LevelPanel]:
    names = [name for name in _OF_MAPS if any(curves.task == name for curves in result.curves)]
    for name in names:
        lines = []
        for network, label, words in (
            (TRAINED, OWN, "activations, own model's label"),
            (TRAINED, SAME, "activations, other model's label"),
            (INPUT, SAME, "the latent itself, other model's label"),
            (TRAINED, OTHER_SEED, "activations, other's label of another seed"),
            (TRAINED, OTHER_ITEM, "activations, other's label of another item"),
            (TRAINED, MEAN, "mean of the other model's labels"),
        ):
            rows = [
                row
                for row in result.at_levels
                if (row.task, row.network, row.unlike) == (name, network, ANY)
            ]
            # The first step has no noise level that all models share: it stands before them.
            before = min(result.levels) - _APART
            at = [(before if row.log_snr is None else row.log_snr, row) for row in rows]
            lines.append(
                LevelLine(words, [level for level, _ in at], [row.scores[label] for _, row in at])
            )
        metric = next(curves.metric for curves in result.curves if curves.task == name)
        ticks = {min(result.levels) - _APART: FIRST, **{x: f"{x:g}" for x in result.levels}}
        yield LevelPanel(f"{name}: one model's probes on another's image", metric, lines, ticks)
