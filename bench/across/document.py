"""The Markdown document of a comparison across models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite

import numpy as np
from tabulate import tabulate

from bench.across.agreement import MEAN, OTHER_ITEM, OTHER_PROMPT, OTHER_SEED, SAME
from bench.across.comparison import Across
from bench.across.contrasts import ContrastAtLevel
from bench.across.findings import NAMES, sentences
from bench.across.order import OnsetDifference
from bench.across.transfer import ANY, LABELS, AtLevel
from extract.networks import TRAINED
from probes.bootstrap import Score

DOCUMENT = "across.md"
FIGURE, SHEET = "across.png", "scenes.png"


def document(result: Across, command: str, figures: Sequence[str] = ()) -> str:
    """Return the document; ``command`` is what made it."""
    parts = [
        "# Across models",
        f"```\n{command}\n```",
        _table(_models(result)),
        "\n".join(f"- {sentence}" for sentence in sentences(result)),
        *(f"![{name}]({name})" for name in figures),
        *_scores(result),
        *_differences(result),
        *_order(result),
        *_sharing(result),
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Iterable[dict[str, object]]) -> str:
    return str(tabulate(list(rows), headers="keys", tablefmt="github", disable_numparse=True))


def _models(result: Across) -> Iterator[dict[str, object]]:
    for model in result.shared.models:
        yield {
            "model": f"`{model.name}`",
            "architecture": model.architecture,
            "objective": model.objective,
            "seed": "-" if model.seed is None else model.seed,
            "training images": "-"
            if model.training_images is None
            else f"{model.training_images:,}",
            **{name: _written(value) for name, value in model.sampling.items()},
            "log-SNR of the steps": _range(model.results.log_snr or ()),
        }


def _written(value: str | int | float | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _range(levels: Sequence[float]) -> str:
    finite = [level for level in levels if np.isfinite(level)]
    noise = "noise, " if len(finite) < len(levels) else ""
    return f"{noise}{min(finite):.2f} to {max(finite):.2f}"


def _scores(result: Across) -> Iterator[str]:
    yield "## Scores at equal noise levels"
    yield (
        "The best layer at each step, chosen on training images; test images are interpolated in "
        "log-SNR, each for itself. In parentheses the relative position of that layer in the order "
        "of computation, 0 to 1."
    )
    for reading in dict.fromkeys(point.reading for point in result.points):
        of_reading = [point for point in result.points if point.reading == reading]
        yield f"### {str(reading).capitalize()}, {_measure(result, reading.task)}"
        yield _table(
            {
                "model": f"`{model}`",
                **{
                    f"log-SNR {point.log_snr:g}": f"{point.score} ({point.position:.2f})"
                    for point in of_reading
                    if point.model == model
                },
            }
            for model in dict.fromkeys(point.model for point in of_reading)
        )


def _measure(result: Across, name: str) -> str:
    task = result.shared.models[0].results.tasks[name]
    better = "higher" if task.higher_is_better[0] else "lower"
    unit = f" ({task.unit})" if task.unit else ""
    return f"{task.headline}{unit}, {better} is better"


def _differences(result: Across) -> Iterator[str]:
    tested = sum(isfinite(row.q) for row in result.differences)
    yield "## Differences at equal noise levels"
    yield (
        "Paired over shared items; above zero the first group is better, in every task. `*`: at a "
        f"false discovery rate of 5 % over all {tested} differences. Intervals "
        'over seeds are those of docs/statistics.md; "this one network" has no second seed.'
    )
    for contrast in dict.fromkeys(row.contrast for row in result.differences):
        rows = [row for row in result.differences if row.contrast == contrast]
        yield f"### {contrast.what.capitalize()}: {contrast.words}"
        yield _table(
            {
                "score": str(reading),
                **{
                    f"log-SNR {row.log_snr:g}": _difference(row)
                    for row in rows
                    if row.reading == reading
                },
            }
            for reading in dict.fromkeys(row.reading for row in rows)
        )


def _difference(row: ContrastAtLevel) -> str:
    return f"{_signed(row.difference.value)}{' *' if row.is_significant else ''}"


def _signed(value: Score) -> str:
    return f"{value.mean:+.3f} [{value.low:.3f}, {value.high:.3f}]"


def _order(result: Across) -> Iterator[str]:
    yield "## Order of emergence"
    yield (
        "Log-SNR from which on the best layer of the last step keeps 90 % of its final gain over "
        "position alone, or over the mean training label for tasks of whole images. *At or "
        "before*: from the first noise level on that all models have. The prompt names colour, "
        "shape, floor, wall and light, so that an early onset of theirs may be that of its words."
    )
    names = dict.fromkeys(onset.attribute for onset in result.onsets)
    yield _table(
        {
            "model": f"`{model.name}`",
            **{
                name: str(onset)
                for name in names
                for onset in result.onsets
                if (onset.model, onset.attribute) == (model.name, name)
            },
        }
        for model in result.shared.models
    )
    for what, rows in (("groups", result.group_order), ("attributes", result.attribute_order)):
        if rows:
            yield (
                f"Differences between onsets of {what}, in log-SNR: below zero the first one comes "
                "first. `*`: at a false discovery rate of 5 % over this table; others are no order."
            )
            yield _table(_pairs(result, rows))


def _pairs(result: Across, rows: Sequence[OnsetDifference]) -> Iterator[dict[str, object]]:
    for first, second in dict.fromkeys((row.first, row.second) for row in rows):
        found = {row.model: row for row in rows if (row.first, row.second) == (first, second)}
        yield {
            "onset of": f"{first} minus {second}",
            **{
                f"`{model.name}`": _onset_difference(found.get(model.name))
                for model in result.shared.models
            },
        }


def _onset_difference(row: OnsetDifference | None) -> str:
    if row is None:
        return "-"
    value = row.difference
    star = " *" if row.has_order else ""
    return f"{value.mean:+.2f} [{value.low:.2f}, {value.high:.2f}]{star}"


def _sharing(result: Across) -> Iterator[str]:
    if not result.readings:
        return
    yield "## Same noise, other model"
    yield (
        f"The first {len(result.readings[0].items)} shared test items, generated again. Gains are "
        "over the strongest control, paired over items."
    )
    for task, metric in dict.fromkeys((row.task, row.metric) for row in result.agreements):
        yield f"### Final labels: {task}, {metric}"
        yield _table(
            {
                "models": " and ".join(f"`{name}`" for name in row.models),
                "differ in": row.unlike,
                **{
                    what: f"{row.scores[what].mean:.3f}"
                    for what in (SAME, OTHER_SEED, OTHER_PROMPT, OTHER_ITEM, MEAN)
                },
                "gain": f"{_signed(row.gain)}{' *' if row.holds else ''}",
            }
            for row in result.agreements
            if (row.task, row.metric) == (task, metric)
        )
    yield "### One model's probes, the other's final label"
    yield (
        "Averaged per item over ordered pairs of models. The mean of the other items is the other "
        "model's, and predicts its label without a reading. The gain is over the strongest of "
        "another seed, another item and this mean. The last columns compare activations with the "
        "latent itself: their scores, and their gains over another item, which is what they tell "
        "of this item."
    )
    for task in dict.fromkeys(row.task for row in result.at_levels):
        rows = [row for row in result.at_levels if (row.task, row.unlike) == (task, ANY)]
        yield f"#### {task.capitalize()}, {rows[0].metric}, {rows[0].pairs} pairs"
        yield _table(_level_row(row) for row in rows)
    kinds = [row for row in result.at_levels if row.log_snr is None and row.network == TRAINED]
    if any(row.unlike != ANY for row in kinds):
        yield "### The first step, by what the models differ in"
        for task in dict.fromkeys(row.task for row in kinds):
            yield f"#### {task.capitalize()}"
            yield _table(_kind_row(row) for row in kinds if row.task == task)
    yield "### From which noise level on"
    yield (
        "Log-SNR of the first step from which on one model's activations (rows) predict the "
        "other's final label (columns) beyond these controls at every step."
    )
    for task in dict.fromkeys(curves.task for curves in result.curves):
        yield f"#### {task.capitalize()}"
        yield _table(_from(result, task))


def _level_row(row: AtLevel) -> dict[str, object]:
    return {
        "read from": NAMES[row.network],
        "level": row.level if row.log_snr is None else f"log-SNR {row.level}",
        **{label: f"{row.scores[label].mean:.3f}" for label in LABELS},
        "gain": _signed(row.gain),
        **_over_latent(row),
    }


def _over_latent(row: AtLevel) -> dict[str, object]:
    columns = {"over the latent": row.over_latent, "its gain": row.gain_over_latent}
    return {name: "" if value is None else _signed(value) for name, value in columns.items()}


def _kind_row(row: AtLevel) -> dict[str, object]:
    return {
        "differ in": row.unlike,
        "pairs": row.pairs,
        **{label: f"{row.scores[label].mean:.3f}" for label in LABELS},
        "gain": _signed(row.gain),
        **_over_latent(row),
    }


def _from(result: Across, task: str) -> Iterator[dict[str, object]]:
    curves = {
        (x.reader, x.other): x for x in result.curves if x.task == task and x.network == TRAINED
    }
    names = [model.name for model in result.shared.models]
    for reader in names:
        row: dict[str, object] = {"probes of": f"`{reader}`"}
        for other in names:
            found = curves.get((reader, other))
            row[other] = ""
            if found is not None:
                start = found.shared_from
                row[other] = "never" if start is None else _level(found.log_snr[start])
        yield row


def _level(level: float) -> str:
    return f"{level:.2f}" if np.isfinite(level) else "noise"
