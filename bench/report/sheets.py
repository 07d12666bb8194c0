"""The images and readings of a run's interactive page, packed into sheets of many tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.images import Bytes, jpeg, png, shaded_png
from bench.registry import plugin, plugins
from bench.runs.readings import KINDS, LONGEST, spread
from bench.runs.results import Results, TaskResults
from bench.steps import numbers_of


def images(results: Results) -> dict[str, Any] | None:
    """The images by step as sheets: a row per item, a column per step; None in older runs."""
    strips = results.strips
    steps = [step for step in results.steps if f"decoded/{step}" in strips]
    if not steps:
        return None
    items = len(strips[f"decoded/{steps[0]}"])
    final = [strips["image"][item] for item in range(items)]
    return {
        "items": items,
        "steps": list(numbers_of(steps)),
        "size": list(strips[f"decoded/{steps[0]}"].shape[-2:]),
        "decoded": jpeg(_sheet([strips[f"decoded/{step}"] for step in steps])),
        "clean": jpeg(_sheet([strips[f"clean/{step}"] for step in steps])),
        "final": [png(image, LONGEST) for image in final],
    }


def _sheet(columns: Sequence[Bytes]) -> Bytes:
    """Images (n x c x h x w per column) side by side, the n items below each other."""
    return np.concatenate([np.concatenate([*column], axis=-2) for column in columns], axis=-1)


def readings(results: Results, task: TaskResults) -> dict[str, Any] | None:
    """The readings of a task by kind of probe, layer and step; None in older runs."""
    strips = results.strips
    prefix = f"map/{task.name}/"
    if any(name.startswith(prefix) for name in strips):
        return _maps(results, task)
    if f"answer/{task.name}" in strips:
        return _vectors(results, task)
    return None


def _maps(results: Results, task: TaskResults) -> dict[str, Any]:
    kinds = {}
    for kind in KINDS:
        maps = {
            layer: results.strips[key]
            for layer in results.layers
            if (key := f"map/{task.name}/{kind}/{layer}") in results.strips
        }
        if maps:
            kinds[kind] = _map_sheet(maps)
    first = next(
        results.strips[f"map/{task.name}/{kind}/{layer}"]
        for kind in kinds
        for layer in results.layers
        if f"map/{task.name}/{kind}/{layer}" in results.strips
    )
    labels = results.strips[f"label/{task.name}"][: len(first)]
    return {
        "steps": _kept(results, first.shape[1]),
        "items": len(first),
        "kinds": kinds,
        "labels": [_label(label) for label in labels],
    }


def _kept(results: Results, count: int) -> list[int]:
    return list(numbers_of(spread(results.steps, count)))


def _label(label: NDArray[np.float32]) -> str:
    low, high = float(label.min()), float(label.max())
    share = (label - low) / max(high - low, 1e-12)
    return _picture((share * 255).round().astype(np.uint8), LONGEST)


def _picture(levels: Bytes, longest: int) -> str:
    factor = max(1, -(-max(levels.shape[-2:]) // longest))
    return _coloured(levels[..., ::factor, ::factor])


def _coloured(levels: Bytes) -> str:
    """Levels (k x h x w) as a data URL: one channel shaded, two or three as colours."""
    if len(levels) == 1:
        return shaded_png(levels[0])
    if len(levels) == 2:
        levels = np.concatenate([levels, np.full_like(levels[:1], 128)])
    return png(levels)


def _map_sheet(maps: dict[str, Bytes]) -> dict[str, Any]:
    """The maps of all layers as one sheet, with the place and size of each layer's tiles.

    Per layer there is a row of tiles per item, and in it a column per step.
    """
    parts, places, top = [], {}, 0
    width = max(tiles.shape[1] * tiles.shape[-1] for tiles in maps.values())
    for layer, tiles in maps.items():
        part = _sheet([*np.moveaxis(tiles, 1, 0)])
        places[layer] = [top, *tiles.shape[-2:]]
        parts.append(np.pad(part, ((0, 0), (0, 0), (0, width - part.shape[-1]))))
        top += part.shape[-2]
    return {"sheet": _coloured(np.concatenate(parts, axis=-2)), "places": places}


def _vectors(results: Results, task: TaskResults) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {}
    steps = len(results.steps)
    for kind in KINDS:
        for layer in results.layers:
            values = results.strips.get(f"vector/{task.name}/{kind}/{layer}")
            if values is not None:
                steps = values.shape[1]
                kinds.setdefault(kind, {})[layer] = np.round(values, 2).tolist()
    answers = results.strips[f"answer/{task.name}"]
    return {
        "steps": _kept(results, steps),
        "items": len(answers),
        "vectors": kinds,
        "answers": answers.argmax(1).tolist(),
        "classes": _classes(task.name, answers.shape[1]),
    }


def _classes(task: str, count: int) -> list[str]:
    """Names of the classes; numbers for a task that is no longer installed."""
    names = plugin("task", task).classes if task in plugins("task") else ()
    return list(names) if len(names) == count else [str(number + 1) for number in range(count)]
