"""``leaderboard.json``: the leaderboard of a ledger, as pages and other programs read it."""

from __future__ import annotations

from pydantic import Field

from bench.options.validation import Record

BOARD_SCHEMA = 1


class Point(Record):
    """The score of a cell."""

    network: str
    layer: str
    probe: str
    draw: int
    step: int
    """Counted from 1; 0 for a baseline that is the same at all steps."""
    log_snr: float | None
    """Logarithm of the signal-to-noise ratio before the step; None without a finite one."""
    letters: str = ""
    """Layers of one entry that share a letter do not differ significantly."""
    mean: float | None
    low: float | None
    """Ends of the 95 % interval over test items; None where undefined."""
    high: float | None


class BoardTask(Record):
    """An entry in one task."""

    metric: str
    higher_is_better: bool
    unit: str
    score: Point
    """The compared cell: the best layer at the leaderboard's step."""
    letters: str
    """Of its tied groups, between spaces; a is the best."""
    curve: tuple[Point, ...]
    """The best layer at every step."""
    with_position: tuple[Point, ...]
    """The same of probes that also read the position; empty for a task of whole images."""
    by_layer: tuple[Point, ...]
    """Every layer at the last step, in the order of the entry's ``layers``."""
    controls: tuple[Point, ...]
    """Permuted labels, the latent itself, permuted weights and position alone."""


class BoardEntry(Record):
    """A row of the leaderboard."""

    entry: str
    """Its folder below the ledger."""
    model: str
    revision: str
    dataset: str
    test_items: int
    engine: str
    sampler: str
    precision: str
    tool: str
    caveats: tuple[str, ...]
    layers: tuple[str, ...]
    """In the order of computation."""
    tasks: dict[str, BoardTask]


class BoardPair(Record):
    """Two entries of a group, compared in one task."""

    task: str
    first: int
    second: int
    """Numbers of the entries in their group, counted from 0."""
    items: int
    """Test items that both have."""
    gain: tuple[float | None, ...]
    """Mean difference and its paired 95 % interval; above zero the first is better."""
    q: float | None
    differs: bool


class BoardGroup(Record):
    """Entries that can be compared with each other."""

    conditions: dict[str, str]
    apart: str
    """Why they cannot be compared with the first group; empty for the first."""
    entries: tuple[BoardEntry, ...]
    tied: dict[str, tuple[tuple[int, ...], ...]]
    """Per task, the tied groups as numbers of entries, the best first."""
    pairs: tuple[BoardPair, ...]


class Board(Record):
    """``leaderboard.json``."""

    version: int = Field(alias="schema")
    step: int | None
    """Counted from 1; None for each entry's last."""
    rate: float
    """False discovery rate over all pairs and tasks of a group."""
    groups: tuple[BoardGroup, ...]
    """The largest first."""
