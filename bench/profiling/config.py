"""Options of a profile."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config import MOST_THREADS, WEIGHTS, Weights, nearest
from bench.errors import UserError
from bench.registry import plugin, plugins, usable_engine
from bench.steps import MOST_STEPS

REFERENCE = "torch_eager"
PARTS = ("extraction", "untapped", "layers", "memory")
"""Parts that ``--skip`` leaves out."""
BASELINES = ("hooks", "authors")


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """The options of ``python -m bench profile``. Raises UserError for values out of range."""

    model: str = "tiny"
    weights: Weights = "trained"
    engines: tuple[str, ...] = ()
    """Empty for all that are usable here; PyTorch, the reference, is always among them."""
    batch: tuple[int, ...] = (1, 2, 16)
    """Rows per engine call; an image is two rows under guidance."""
    items: int = 8
    rounds: int = 5
    threads: int | None = None
    sampler_steps: int = 15
    baselines: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    run: str | None = None
    """A run folder whose probes are applied to every engine's activations."""
    out: str | None = None
    """The profile folder; None names one after the model and the time, in ``runs``."""

    def __post_init__(self) -> None:
        """Check every value."""
        minima = {"items": 2, "rounds": 1, "sampler_steps": 1, "threads": 1}
        for name, least in minima.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(
                    f"{name.replace('_', '-')} must be a whole number of at least {least}, "
                    f"not {value}"
                )
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UserError(f"threads must be at most {MOST_THREADS}, not {self.threads}")
        if self.sampler_steps > MOST_STEPS:
            raise UserError(f"sampler-steps must be at most {MOST_STEPS}, not {self.sampler_steps}")
        if not self.batch or min(self.batch) < 1:
            raise UserError(
                "batch must be rows per call, each at least 1, such as 1,2,16, "
                f"not {list(self.batch)}"
            )
        for name, allowed in (("baselines", BASELINES), ("skip", PARTS)):
            for entry in getattr(self, name):
                if entry not in allowed:
                    raise UserError(f"--{name} knows no {entry!r}{nearest(entry, allowed)}")
        if self.weights not in WEIGHTS:
            raise UserError(f"weights must be one of {', '.join(WEIGHTS)}, not {self.weights!r}")
        if self.run and self.weights == "random":
            raise UserError(
                "--run holds probes of trained weights; leave out --run or --weights random"
            )


def chosen_engines(config: ProfileConfig) -> tuple[str, ...]:
    """The engines to measure, the reference first. Raises UserError for one that is not usable."""
    for name in config.engines:
        usable_engine(name)
    usable = config.engines or tuple(
        name for name in plugins("engine") if plugin("engine", name).unavailable() is None
    )
    return tuple(dict.fromkeys((REFERENCE, *usable)))
