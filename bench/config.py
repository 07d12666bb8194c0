"""What a run is asked to do: one frozen record, from the command line or a TOML file; reading it touches nothing.

Below it stands how lists are typed on the command line, and the options that several commands share.
"""

from __future__ import annotations

import argparse
import math
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError

Source = Literal["generated", "rendered"]
SOURCES: tuple[Source, ...] = ("generated", "rendered")

WEIGHTS = ("trained", "random")

COMPARISONS = (
    "own",
    "reinitialised",
    "own-reinitialised",
    "vae",
    "convolution",
    "text",
    "unconditional",
    "decoded",
)
"""What can be watched beside the trained network and its controls; ``all`` stands for all of them."""
ALL = "all"

MOST_STEPS = 1000
"""A model of this kind is trained on so many timesteps; a sampler cannot take more."""
MOST_THREADS = 1024
"""More cores than a machine has; beyond 32 bits the libraries fail."""
EARLY_STEP = 4
"""Step 5, by which the paper finds that the scene is laid out."""

QUICK_LIMIT = 96
QUICK_STEPS = (1, 3, 5, 10, 15)


FORMATS = ("simple", "github")
"""Of tables: for a terminal, for a page in Markdown."""

COMMAND = "python -m bench"


@dataclass(frozen=True, slots=True)
class Config:
    """The options of ``python -m bench run``. Steps are counted from 1, as people read them."""

    model: str = "tiny"
    weights: str = "trained"
    """Or ``random``: the architecture alone, to try a run out before its weights are there."""
    engine: str = "onnxruntime"
    dataset: str = "scenes617"
    """A name, or a CSV file of prompts."""
    prompts: str | None = None
    """The folder of the dataset's files, where it is read from files."""
    fetch: bool = False
    """Whether the dataset's files may be downloaded."""
    labeler: str | None = None
    """None takes the one that the model names."""
    depth_model: str | None = None
    """A transformers folder or hub id, for labelers that leave the choice; None takes the labeler's own."""
    depth_scale: tuple[float, ...] = ()
    """Mean and standard deviation of that model's relative inverse depth; empty where the labeler knows them."""
    saliency_model: str | None = None
    """An ONNX file, for labelers that leave the choice."""
    saliency_size: int = 512
    """Height and width of what the saliency network is given."""
    tasks: tuple[str, ...] = ("saliency", "depth")
    layers: tuple[str, ...] = ()
    """Layers or blocks to probe; empty for all."""
    steps: tuple[int, ...] = ()
    """Steps to probe; empty for all. Images are always generated to the end."""
    sampler_steps: int = 15
    guidance: float | None = None
    """None takes the model's own."""
    limit: int | None = None
    """Items in all, in the dataset's proportion of training and test items."""
    source: Source = "generated"
    random_networks: int = 1
    """Networks of permuted weights that are shown the trained model's latents."""
    compare: tuple[str, ...] = ()
    """What else to watch, of COMPARISONS."""
    batch: int = 8
    """Rows per engine call."""
    shard: int = 24
    """Items per shard: what a crash can cost."""
    threads: int | None = None
    """None takes all cores."""
    out: str | None = None
    """The run folder; None names one after the configuration, in ``runs``."""

    def __post_init__(self) -> None:
        """Refuse what no run can do."""
        whole = {
            "sampler_steps": (1, MOST_STEPS),
            "batch": (1, None),
            "shard": (1, None),
            "random_networks": (0, None),
            "threads": (1, MOST_THREADS),
            "limit": (2, None),
            "saliency_size": (1, None),
        }
        for name, (least, most) in whole.items():
            value = getattr(self, name)
            if value is None and name in ("threads", "limit"):
                continue
            if type(value) is not int or value < least or (most is not None and value > most):
                bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
                raise UserError(f"{name} must be a whole number {bounds}, not {value!r}")
        for name in ("tasks", "layers"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(
                isinstance(entry, str) and entry for entry in value
            ):
                raise UserError(f"{name} must be a list of names, not {value!r}")
        for name in ("model", "engine", "dataset"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise UserError(f"{name} must be a name, not {getattr(self, name)!r}")
        for name in ("labeler", "prompts", "depth_model", "saliency_model", "out"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise UserError(f"{name} must be a name or a path, not {value!r}")
        if not isinstance(self.fetch, bool):
            raise UserError(f"fetch must be true or false, not {self.fetch!r}")
        if not self.tasks:
            raise UserError("tasks is empty; name at least one, such as depth")
        if not isinstance(self.compare, tuple):
            raise UserError(f"compare must be a list of names, not {self.compare!r}")
        for name in self.compare:
            if name not in COMPARISONS:
                raise UserError(
                    f"there is no comparison {name!r}{nearest(str(name), (*COMPARISONS, ALL))}"
                )
        if self.source == "rendered":
            generated = [
                name
                for name in ("own", "own-reinitialised", "unconditional")
                if name in self.compare
            ]
            if generated:
                raise UserError(
                    f"comparison {generated[0]} needs generated images; drop it or use --source generated"
                )
        if self.weights not in WEIGHTS:
            raise UserError(f"weights must be one of {', '.join(WEIGHTS)}, not {self.weights!r}")
        if self.source not in SOURCES:
            raise UserError(f"source must be one of {', '.join(SOURCES)}, not {self.source!r}")
        if self.guidance is not None and not _is_number(self.guidance):
            raise UserError(f"guidance must be a number, not {self.guidance!r}")
        scale = self.depth_scale
        if not isinstance(scale, tuple) or not all(_is_number(value) for value in scale):
            raise UserError(f"depth_scale must be two numbers, not {scale!r}")
        if scale and (len(scale) != 2 or not scale[1] > 0):
            raise UserError(
                f"depth_scale must be a mean and a standard deviation above 0, not {scale!r}"
            )
        if not isinstance(self.steps, tuple):
            raise UserError(f"steps must be a list of steps, not {self.steps!r}")
        wrong = [
            step
            for step in self.steps
            if type(step) is not int or not 1 <= step <= self.sampler_steps
        ]
        if wrong:
            raise UserError(
                f"step {wrong[0]!r} does not exist: the sampler has steps 1 to {self.sampler_steps}"
            )

    @property
    def probed_steps(self) -> tuple[int, ...]:
        """The probed steps, counted from 0, in order."""
        return tuple(sorted({step - 1 for step in self.steps})) or tuple(range(self.sampler_steps))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def quick(config: Config) -> Config:
    """The same run cut to under a minute: fewer items and steps, where they were not chosen."""
    steps = config.steps or tuple(sorted({min(step, config.sampler_steps) for step in QUICK_STEPS}))
    return replace(config, limit=config.limit or QUICK_LIMIT, steps=steps)


def config_of(options: Mapping[str, Any]) -> Config:
    """A configuration from named options; lists become tuples. Raises UserError for a name that is none."""
    known = [entry.name for entry in fields(Config)]
    for name in options:
        if name not in known:
            raise UserError(f"there is no option {name!r}{nearest(name, known)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    chosen = values.get("compare")
    if isinstance(chosen, tuple) and ALL in chosen:
        # Beside it other names say nothing, but a misspelt one is still refused.
        values["compare"] = COMPARISONS + tuple(
            name for name in chosen if name not in (ALL, *COMPARISONS)
        )
    return Config(**values)


def read_toml(path: Path) -> dict[str, Any]:
    """The options in a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    # A plain ValueError is a number of too many digits, a RecursionError a list nested too deeply.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a TOML file: {error}") from error


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(known)}"


def names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def steps(text: str) -> tuple[int, ...]:
    """Steps and ranges of steps, such as ``1,2,5`` or ``1-5``; counted from 1."""
    found: list[int] = []
    for part in names(text):
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
            # A range of billions would fill the memory; what lies beyond the most is refused by its first step.
            some = range(low, min(high, max(low, MOST_STEPS + 1)) + 1)
        except ValueError:
            some = range(0)
        if not some:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a step or a range of steps; steps are counted from 1, such as 1,2,5 or 1-5"
            )
        found.extend(some)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no step; name some, such as 1,2,5 or 1-5")
    return tuple(found)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        found = tuple(float(name) for name in names(text))
    except ValueError:
        found = ()
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 1,2,4")
    return found


def dataset_files(parser: argparse.ArgumentParser) -> None:
    """Declare where a dataset's files come from. No default: only what was typed is in the namespace's values."""
    parser.add_argument(
        "--prompts", help="folder of the dataset's files, where it is read from files"
    )
    parser.add_argument(
        "--fetch", action="store_true", default=None, help="download the dataset's files, once"
    )


def labeler_sources(parser: argparse.ArgumentParser) -> None:
    """Declare the networks of a labeler that leaves the choice."""
    parser.add_argument(
        "--depth-model", help="transformers folder or hub id (default: the labeler's)"
    )
    parser.add_argument(
        "--depth-scale", type=numbers, metavar="MEAN,STD", help="of that model's inverse depth"
    )
    parser.add_argument("--saliency-model", help="ONNX file of a salient-object network")
    parser.add_argument(
        "--saliency-size", type=int, help="height and width that it is given (default 512)"
    )


def run_command(options: Mapping[str, Any]) -> str:
    """The command that makes a run of these options again, whether they were typed, merged or read from a file."""
    words = []
    for option in fields(Config):
        value = options.get(option.name, option.default)
        value = tuple(value) if isinstance(value, list) else value
        # Where it lay, the run is finished.
        if value == option.default or option.name == "out":
            continue
        name, typed = (
            f"--{option.name.replace('_', '-')}",
            ",".join(map(str, value)) if isinstance(value, tuple) else value,
        )
        # A value with a dash in front would be taken for another option.
        words += (
            [name]
            if value is True
            else [f"{name}={typed}"]
            if str(typed).startswith("-")
            else [name, str(typed)]
        )
    return " ".join([COMMAND, "run", shlex.join(words)]).strip()
