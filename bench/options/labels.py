"""Check the options that prepare a labeler's networks, and put them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from bench.errors import UserError
from datasets.preparation import PRESETS, Preparation, Preset


class LabelOptions(Protocol):
    """The options of a run that say how a labeler's saliency network is used."""

    @property
    def depth_scale(self) -> tuple[float, ...]: ...
    @property
    def saliency_preset(self) -> Preset: ...
    @property
    def saliency_mean(self) -> tuple[float, ...]: ...
    @property
    def saliency_deviation(self) -> tuple[float, ...]: ...
    @property
    def saliency_cut(self) -> float | None: ...
    @property
    def saliency_normalise(self) -> bool | None: ...


def check_label_options(config: LabelOptions) -> None:
    """Raise UserError for a value that fits its type and not its meaning."""
    for name, (words, fits) in ACCEPTED.items():
        value = getattr(config, name)
        if value not in ((), None) and not fits(value):
            raise UserError(f"{name} must be {words}, not {value!r}")


def preparation_of(config: LabelOptions) -> Preparation:
    """Return the preset's preparation, with the values that were given for themselves."""
    given: dict[str, Any] = {
        "mean": _per_channel(config.saliency_mean),
        "deviation": _per_channel(config.saliency_deviation),
        "cut": None if config.saliency_cut is None else float(config.saliency_cut),
        "normalise": config.saliency_normalise,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(PRESETS[config.saliency_preset], **chosen)


def _per_channel(values: tuple[float, ...]) -> tuple[float, ...] | None:
    """One number stands for all three channels."""
    return tuple(map(float, values * 3 if len(values) == 1 else values)) or None


class Accepted(NamedTuple):
    """Which values an option takes."""

    words: str
    fits: Callable[[Any], bool]


ACCEPTED = {
    "depth_scale": Accepted(
        "a mean and a standard deviation above 0",
        lambda scale: len(scale) == 2 and scale[1] > 0,
    ),
    "saliency_mean": Accepted(
        "one number, or one each for red, green and blue", lambda mean: len(mean) in (1, 3)
    ),
    "saliency_deviation": Accepted(
        "one number above 0, or one each for red, green and blue",
        lambda deviation: len(deviation) in (1, 3) and min(deviation) > 0,
    ),
    "saliency_cut": Accepted("a number above 0 and at most 1", lambda cut: 0 < cut <= 1),
}
"""By option."""
