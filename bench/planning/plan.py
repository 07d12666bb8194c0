"""The estimate of a run, as it is printed."""

from __future__ import annotations

from dataclasses import dataclass

from bench.planning.sizes import Sizes
from bench.planning.work import Work


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a run's time: count x seconds of one."""

    what: str
    count: float
    unit: str
    each_seconds: float

    @property
    def seconds(self) -> float:
        """Seconds in total."""
        return self.count * self.each_seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """Estimate of memory, disk space and time on this machine."""

    memory_bytes: int
    """Peak memory."""
    disk_bytes: int
    """Peak disk space, before the shards are deleted."""
    terms: tuple[Term, ...]

    @property
    def seconds(self) -> float:
        """From the command to the results, without the start of Python."""
        return sum(term.seconds for term in self.terms)


@dataclass(frozen=True, slots=True)
class Plan:
    """Estimate of a run."""

    train_items: int
    test_items: int
    image_steps: int
    engine_rows: int
    """Rows that all denoisers compute: the generating network, controls and baselines."""
    flops_per_row: int
    decodings: int
    """Latents decoded for labels, baselines and the report's images; rendered images, which are
    encoded, are not counted."""
    flops_per_decoding: int
    flops_per_prompt: int
    """Operations of all text encoders."""
    sizes: Sizes
    width: int | None
    """Columns to which wide activations are projected; None for exact sums."""
    work: Work
    """Sums, eigenproblems, scores and copies."""
    measured: Measured | None
    """None if nothing was generated."""

    @property
    def flops(self) -> int:
        """Operations of all denoisers."""
        return self.engine_rows * self.flops_per_row

    @property
    def decoding_flops(self) -> int:
        """Operations of the decoder."""
        return self.decodings * self.flops_per_decoding

    @property
    def prompts(self) -> int:
        """Prompts embedded: every item's, and the empty one of the unconditional branch."""
        return self.train_items + self.test_items + 1

    @property
    def prompt_flops(self) -> int:
        """Operations of the text encoders."""
        return self.prompts * self.flops_per_prompt
