"""The rows of the CSV and JSON files: one per score, difference, onset and pair of models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.across.agreement import MEAN, OTHER_ITEM, OTHER_PROMPT, OTHER_SEED, SAME
from bench.across.comparison import Across
from bench.across.order import OnsetDifference
from bench.across.transfer import LABELS, OWN
from bench.options.validation import finite
from bench.steps import number_of
from probes.bootstrap import Score

Row = dict[str, str | float | int | bool | None]

_COLUMNS = {
    OWN: "own",
    SAME: "same_item",
    OTHER_SEED: "other_seed",
    OTHER_PROMPT: "other_prompt",
    OTHER_ITEM: "other_item",
    MEAN: "mean_of_others",
}
"""Whose label -> the column of its scores."""


def tables(result: Across) -> dict[str, list[Row]]:
    """Return every table by the name of its file; numbers that are not finite are None."""
    found = {
        "models": list(_models(result)),
        "scores": list(_scores(result)),
        "differences": list(_differences(result)),
        "onsets": list(_onsets(result)),
        "order": [
            *_order(result.group_order, "groups"),
            *_order(result.attribute_order, "attributes"),
        ],
        "agreement": list(_agreement(result)),
        "transfer": list(_transfer(result)),
        "shared": list(_at_levels(result)),
    }
    return {name: [_storable(row) for row in rows] for name, rows in found.items()}


def _storable(row: Row) -> Row:
    return {
        name: finite(value) if isinstance(value, float) else value for name, value in row.items()
    }


def _models(result: Across) -> Iterator[Row]:
    for model in result.shared.models:
        results = model.results
        yield {
            "model": model.name,
            "architecture": model.architecture,
            "objective": model.objective,
            "seed": model.seed,
            "training_images": model.training_images,
            **model.sampling,
            "run": str(results.path),
            "fingerprint": results.fingerprint,
            "test_items": len(results.record.test_items),
            "shared_items": len(result.shared.items),
            "generated_again": len(result.readings[0].items) if result.readings else 0,
        }


def _scores(result: Across) -> Iterator[Row]:
    for point in result.points:
        yield {
            "model": point.model,
            "task": point.reading.task,
            "probe": point.reading.probe,
            "log_snr": point.log_snr,
            **_ends("score", point.score),
            "layers": point.layers,
            "position": point.position,
        }


def _differences(result: Across) -> Iterator[Row]:
    for row in result.differences:
        yield {
            "differ_in": row.contrast.what,
            "first": " ".join(model.name for model in row.contrast.first),
            "second": " ".join(model.name for model in row.contrast.second),
            "task": row.reading.task,
            "probe": row.reading.probe,
            "log_snr": row.log_snr,
            **_ends("difference", row.difference.value),
            "over_seeds": row.difference.over_seeds,
            "p": row.difference.p,
            "q": row.q,
        }


def _onsets(result: Across) -> Iterator[Row]:
    for onset in result.onsets:
        yield {
            "model": onset.model,
            "attribute": onset.attribute,
            "layer": onset.layer,
            "over": onset.over,
            **_ends("final_gain", onset.final),
            **_ends("log_snr", onset.log_snr),
            "at_or_before": onset.is_bound,
        }


def _order(rows: list[OnsetDifference], what: str) -> Iterator[Row]:
    for row in rows:
        yield {
            "of": what,
            "model": row.model,
            "first": row.first,
            "second": row.second,
            **_ends("difference", row.difference),
            "p": row.p,
            "q": row.q,
            "finding": row.finding,
        }


def _agreement(result: Across) -> Iterator[Row]:
    for row in result.agreements:
        scores = {_COLUMNS[what]: score for what, score in row.scores.items()}
        yield {
            "first": row.models[0],
            "second": row.models[1],
            "differ_in": row.unlike,
            "task": row.task,
            "metric": row.metric,
            **{k: v for name, score in scores.items() for k, v in _ends(name, score).items()},
            **_ends("gain", row.gain),
            "p": row.p,
            "q": row.q,
        }


def _transfer(result: Across) -> Iterator[Row]:
    for curves in result.curves:
        gain = curves.gain
        for index, (step, level) in enumerate(zip(curves.steps, curves.log_snr, strict=True)):
            yield {
                "reader": curves.reader,
                "other": curves.other,
                "differ_in": curves.unlike,
                "task": curves.task,
                "metric": curves.metric,
                "read_from": curves.network,
                "layer": curves.layers[index],
                "step": number_of(step),
                "log_snr": level,
                **{_COLUMNS[x]: float(np.nanmean(curves.scores[x][index])) for x in LABELS},
                "gain": float(gain.mean[index]),
                "gain_low": float(gain.low[index]),
                "gain_high": float(gain.high[index]),
            }


def _at_levels(result: Across) -> Iterator[Row]:
    for row in result.at_levels:
        scores = {_COLUMNS[label]: row.scores[label] for label in LABELS}
        yield {
            "differ_in": row.unlike,
            "pairs": row.pairs,
            "task": row.task,
            "metric": row.metric,
            "read_from": row.network,
            "level": row.level,
            **{k: v for name, score in scores.items() for k, v in _ends(name, score).items()},
            **_ends("gain", row.gain),
            **_ends("over_latent", row.over_latent),
            **_ends("gain_over_latent", row.gain_over_latent),
        }


def _ends(name: str, score: Score | None) -> Row:
    if score is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: score.mean, f"{name}_low": score.low, f"{name}_high": score.high}
