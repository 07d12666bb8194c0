"""The options of a run: types, bounds, help texts, and the command line derived from them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError
from bench.options.labels import ACCEPTED, check_label_options
from bench.options.typed import expanded, parse_size
from bench.options.typed import names as names
from bench.options.typed import nearest as nearest
from bench.options.typed import numbers as numbers
from bench.steps import MOST_STEPS, parse_steps, step_of
from datasets.preparation import Preset
from engines.engine import ATTENTION, KINDS
from engines.sampler_names import CHOICES

Source = Literal["generated", "rendered"]
Weights = Literal["trained", "random"]
WEIGHTS: tuple[Weights, ...] = ("trained", "random")

_OF_GENERATED = ("own", "own-reinitialised", "unconditional")
BASELINES: tuple[str, ...] = (
    *("own", "reinitialised", "own-reinitialised"),
    *("vae", "convolution", "text", "unconditional", "decoded"),
)
"""What can be recorded beside the trained network and its controls; ``all`` selects all of them."""
FURTHER_PROBES = ("standardised",)
"""Baselines that record nothing, and fit further probes to the same activations; not in ``all``."""
ALL = "all"
RENAMED = {"compare": "baselines"}
"""Former name of an option -> its name."""

MOST_THREADS = 1024
"""More cores than a machine has; beyond 32 bits the libraries fail."""

QUICK_LIMIT = 96
QUICK_STEPS = (1, 3, 5, 10, 15)

FORMATS = ("simple", "github")
"""Table formats: for a terminal and for Markdown."""

COMMAND = "python -m bench"


@dataclass(frozen=True, slots=True)
class Option:
    """The bounds of an option and its appearance on the command line."""

    help: str
    parse: Callable[[str], Any] | None
    """Parses what is typed; None makes a flag."""
    least: int | None = None
    most: int | None = None
    least_length: int | None = None
    """Of a list."""
    expected: str | None = None
    """Accepted values in words, where the type does not say it."""
    metavar: str | None = None
    beside: str | None = None
    """Commands that choose this other option take this one too."""


def option(
    default: Any, help: str, parse: Callable[[str], Any] | None = str, **details: Any
) -> Any:
    """Declare a field of a configuration; ``{}`` in the help text stands for the default."""
    shown = ",".join(default) if isinstance(default, tuple) else default
    return field(default=default, metadata={"option": Option(help.format(shown), parse, **details)})


_path = partial(option, expected="a name or a path")
_count = partial(option, parse=int, least=1)
_SALIENCY = "saliency_model"
_prepared = partial(option, beside=_SALIENCY)


@dataclass(frozen=True, slots=True)
class Config:
    """The options of ``python -m bench run``; steps are counted from 1. Raises UserError."""

    model: str = option("tiny", "name, diffusers folder or hub id (default {})")
    weights: Weights = option(
        "trained", "trained or random: the architecture without a download (default {})"
    )
    engine: str = option("onnxruntime", "what executes the network (default {})")
    dataset: str = option("scenes617", "prompts: a name, or a CSV, TSV or text file (default {})")
    prompts: str | None = _path(None, "folder of the dataset's files, where it is read from files")
    fetch: bool = option(False, "download the dataset's files, once", parse=None)
    labeler: str | None = _path(None, "what labels the images (default: the model's)")
    depth_model: str | None = _path(None, "transformers folder or hub id (default: the labeler's)")
    depth_scale: tuple[float, ...] = option(
        (),
        "of that model's inverse depth",
        parse=numbers,
        metavar="MEAN,STD",
        expected=ACCEPTED["depth_scale"].words,
    )
    saliency_model: str | None = _path(None, "ONNX file of a salient-object network")
    saliency_size: int | None = _count(
        None, "height and width of its input (default: the file's; where open, the preset's)"
    )
    saliency_preset: Preset = option(
        "tracer", "its preprocessing: tracer, u2net, isnet, bria (default {})", beside=_SALIENCY
    )
    saliency_mean: tuple[float, ...] = _prepared(
        (),
        "subtracted from images in 0..1, by channel",
        numbers,
        expected=ACCEPTED["saliency_mean"].words,
    )
    saliency_deviation: tuple[float, ...] = _prepared(
        (),
        "standard deviation that divides them then, by channel",
        numbers,
        expected=ACCEPTED["saliency_deviation"].words,
    )
    saliency_cut: float | None = _prepared(
        None, "threshold of its map, in 0..1", float, expected=ACCEPTED["saliency_cut"].words
    )
    saliency_normalise: bool | None = _prepared(
        None, "stretch its map to 0..1 by the map's minimum and maximum", None
    )
    tasks: tuple[str, ...] = option(
        ("saliency", "depth"),
        "what probes predict, such as {} (the default)",
        parse=names,
        least_length=1,
    )
    layers: tuple[str, ...] = option(
        (), "layers or blocks to probe, such as mid,up2 or up3.1 (default: all)", parse=names
    )
    steps: tuple[int, ...] = option(
        (),
        "steps to probe, counted from 1, such as 1,2,5 or 1-5 (default: all); "
        "images are always generated to the end",
        parse=parse_steps,
        expected="a list of steps",
    )
    taps: tuple[str, ...] = option(
        (ATTENTION,),
        f"kinds of activations to record: {', '.join(KINDS)} (default {{}})",
        names,
        least_length=1,
    )
    width: int | None = _count(
        None, "project wider layers to N channels, to save memory (default: none)", metavar="N"
    )
    size: tuple[int, ...] = option(
        (),
        "height and width of the images in pixels, such as 512 or 512x768 (default: the model's)",
        parse=parse_size,
        metavar="HEIGHTxWIDTH",
        expected="a height, or a height and a width",
    )
    sampler: str | None = option(
        None,
        f"{', '.join(CHOICES)} (default: lms for Stable Diffusion 1, 2 and XL; else the model's)",
    )
    sampler_steps: int = _count(15, "denoising steps (default {})", most=MOST_STEPS)
    guidance: float | None = option(
        None, "strength of classifier-free guidance (default: the model's)", parse=float
    )
    true_guidance: float | None = option(
        None,
        "classifier-free guidance by a second row, for guidance-distilled models (FLUX)",
        parse=float,
    )
    limit: int | None = option(
        None, "use at most N items, training and test together", parse=int, least=2, metavar="N"
    )
    source: Source = option(
        "generated", "generated or rendered: rendered images noised to every step (default {})"
    )
    random_networks: int = option(
        1,
        "networks of permuted weights to record beside the trained one (default {})",
        parse=int,
        least=0,
    )
    baselines: tuple[str, ...] = option(
        (),
        f"what else to record: {', '.join(BASELINES)}, or {ALL}; or further probes to fit: "
        f"{', '.join(FURTHER_PROBES)}",
        parse=names,
    )
    batch: int = _count(8, "rows per engine call (default {})")
    shard: int = _count(24, "items per shard; an interruption loses at most one shard (default {})")
    threads: int | None = _count(None, "CPU threads (default: all cores)", most=MOST_THREADS)
    out: str | None = _path(None, "run folder (default: one in runs/, named after the options)")

    def __post_init__(self) -> None:
        """Check every field, then the fields that depend on each other."""
        from bench.options.validation import check_options

        for name in (entry.name for entry in fields(self)):
            # As a notebook may give them.
            value: object = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            elif isinstance(value, Path):
                object.__setattr__(self, name, str(value))
        check_options(self)
        for name in self.baselines:
            if name not in (*BASELINES, *FURTHER_PROBES):
                choices = (*BASELINES, *FURTHER_PROBES, ALL)
                raise UserError(f"there is no baseline {name!r}{nearest(name, choices)}")
            if self.source == "rendered" and name in _OF_GENERATED:
                raise UserError(
                    f"baseline {name} needs generated images; drop it or use --source generated"
                )
        check_label_options(self)
        for kind in self.taps:
            if kind not in KINDS:
                raise UserError(f"there are no taps of {kind!r}{nearest(kind, KINDS)}")
        if self.sampler is not None and self.sampler not in CHOICES:
            raise UserError(f"there is no sampler {self.sampler!r}{nearest(self.sampler, CHOICES)}")
        if len(self.size) > 2 or any(pixels < 1 for pixels in self.size):
            raise UserError(f"size must be a height, or a height and a width, not {self.size!r}")
        for step in self.steps:
            if not 1 <= step <= self.sampler_steps:
                raise UserError(
                    f"step {step} does not exist: the sampler has steps 1 to {self.sampler_steps}"
                )

    @property
    def probed_steps(self) -> tuple[int, ...]:
        """The probed steps, counted from 0, in order."""
        return tuple(sorted({step_of(number) for number in self.steps})) or tuple(
            range(self.sampler_steps)
        )


def default_of(name: str) -> Any:
    """Return the default of an option without making a configuration, which imports pydantic."""
    return next(field.default for field in fields(Config) if field.name == name)


def quick(config: Config) -> Config:
    """Cut a run to under a minute: fewer items and steps, where they were not chosen."""
    last = config.sampler_steps
    steps = config.steps or tuple(sorted({min(number, last) for number in QUICK_STEPS}))
    return replace(config, limit=config.limit or QUICK_LIMIT, steps=steps)


def config_of(options: Mapping[str, Any]) -> Config:
    """Make a configuration from named options; lists become tuples. Raises UserError."""
    choices = [entry.name for entry in fields(Config)]
    for name in options:
        if name in RENAMED:
            raise UserError(f"the option {name} is now {RENAMED[name]}; rename it")
        if name not in choices:
            raise UserError(f"there is no option {name!r}{nearest(name, choices)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    # No name but a path begins so.
    values |= {name: expanded(value) for name, value in values.items() if isinstance(value, str)}
    chosen = values.get("baselines")
    if isinstance(chosen, tuple) and ALL in chosen:
        # Names of further probes are kept; a misspelt one is still refused.
        others = tuple(name for name in chosen if name not in (ALL, *BASELINES))
        values["baselines"] = BASELINES + others
    return Config(**values)


def read_toml(path: Path) -> dict[str, Any]:
    """Read the options in a TOML file. Raises UserError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    # ValueError also stands for a number of too many digits, RecursionError for deep nesting.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a TOML file: {error}") from error
