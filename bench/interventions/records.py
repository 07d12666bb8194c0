"""``summary.json`` of a finished intervention experiment: its record, and how it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from bench.errors import UserError
from bench.interventions.arms import EDIT
from bench.interventions.config import Plan
from bench.options.validation import OtherVersion, Record, read_record, remedy
from datasets.atomic_write import atomic_write

SCHEMA = 2
"""Raised whenever trials stored by older code are no longer right."""
FOLDER, SUMMARY, MAPS = "interventions", "summary.json", "maps.json"
ATTRIBUTES = "attributes"
CHANGED = "changed"
"""Measured of every edit: whether the edited attribute has another class than before."""
ATTRIBUTES_SCHEMA = 2
"""Of ``attributes.json``: raised when its numbers get another meaning."""
SHIFTED, ORIGINAL = "shifted", "original"
"""Agreement with the target label, and with the label of the unedited image."""
DAMAGE, AREA_RATIO = "damage", "area_ratio"
"""Mean absolute change of background pixels (0 to 1), and area of the object over its original."""

Interval = tuple[float, float, float]
"""A mean and the ends of its 95 % interval."""


class ChosenEdit(Record):
    """The edit that the experiment chose."""

    method: str
    strength: float
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    """Counted from 1."""


class ArmRecord(Record):
    """The scores of an arm; ``steps`` are counted from 1."""

    method: str
    control: str
    strength: float
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    scores: dict[str, Interval]
    gains: dict[str, Interval] | None = None
    """Of an edit, over each of its controls; above zero the edit is better."""
    visible: dict[str, float] | None = None
    """The smallest gain over each control that this many items show with 80 % power."""
    gains_by_permutation: tuple[float, ...] = ()
    """Mean gain over each permutation of the labels that the shifts take; none of a single one."""


class Curve(Record):
    """A method's effect at stated damages; three or more intervals, the last of the area."""

    method: str
    strengths: tuple[float, ...]
    damages: tuple[float, ...]
    damage: tuple[float, ...]
    """Mean, by strength."""
    score: tuple[float, ...]
    """Mean headline score, by strength."""
    reached: tuple[float, ...]
    """Share of the items whose damage passes each stated one at some strength; nan where no image
    has a background."""
    random_reached: tuple[float, ...] | None = None
    """The same of random directions: where they do not reach a damage that the edit reaches, their
    gain is read at a smaller one."""
    effects: tuple[Interval, ...]
    """Gain over no edit at each stated damage; then the mean over damages up to the last."""
    over_random: tuple[Interval, ...] | None = None
    """The same, minus that of random directions."""


class Contest(Record):
    """Two methods at equal damage; above zero the first is better. See :class:`Curve`."""

    first: str
    second: str
    effects: tuple[Interval, ...]


class MapRecord(Record):
    """``maps.json``: what can be read and what acts, by block and window; see ``maps.py``."""

    task: str
    method: str
    strength: float
    items: int
    shifts: int
    blocks: tuple[str, ...]
    windows: tuple[tuple[int, ...], ...]
    """Steps counted from 1."""
    reading: tuple[tuple[Interval, ...], ...]
    """Blocks x windows."""
    acting: tuple[tuple[Interval, ...], ...]
    correlation: Interval
    """Rank correlation over cells; its interval is undefined for fewer than 8 items."""
    correlation_bias: float
    """What a resample of the items adds to it on average: noise lowers it."""


class AttributeRecord(Record):
    """One entry of the matrix of edited x measured attributes; see ``attributes.py``."""

    edited: str
    measured: str
    method: str
    share: Interval
    """Of images with the target class (the edited attribute measured), or with another class than
    before: of the measured attribute, or under ``CHANGED`` of the edited one."""
    random: Interval
    """The same of random directions."""
    gain: Interval
    """Of the edit over random directions, paired."""
    strength: float
    """Median over images of the strength at which the edit changes an image as stated."""
    p: float
    """Of no gain, two-sided; nan if undefined."""
    q: float
    """After Benjamini and Hochberg, over the cells of all methods."""
    reached: float
    """Share of images whose change is about the stated one. The others are read at the strength
    whose change is nearest to it."""
    random_reached: float
    """The same of random directions."""
    hit: bool
    """Whether the edited attribute gains its target class, at a false discovery rate of 5 %."""


class AttributeTable(Record):
    """``attributes.json``."""

    schema_read: ClassVar[int | None] = ATTRIBUTES_SCHEMA
    schema_unstated: ClassVar[int | None] = 1

    version: int = Field(default=ATTRIBUTES_SCHEMA, alias="schema")
    change: float
    """Mean absolute difference of pixels at which every edit is read."""
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    items: int
    entries: tuple[AttributeRecord, ...]


class Summary(Record):
    """A finished experiment."""

    schema_read: ClassVar[int | None] = SCHEMA

    version: int = Field(alias="schema")
    task: str
    headline: str
    """The score by which arms are compared."""
    higher_is_better: bool
    plan: Plan
    test_items: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    """Of the test items; none in summaries of earlier versions."""
    choose_items: tuple[str, ...]
    """Training items; none where the edit was chosen on the test items."""
    chosen: ChosenEdit
    best_strengths: dict[str, float] = Field(default_factory=dict)
    """Per method, the strength whose controls were all run; none in earlier summaries."""
    permutations: int = 1
    """Permutations of the labels whose probes are a control; the gain over a single one says
    nothing about others."""
    choice: tuple[ArmRecord, ...]
    """Arms on the training items."""
    arms: tuple[ArmRecord, ...] = Field(min_length=1)
    """Arms on the test items."""
    curves: tuple[Curve, ...] = ()
    contests: tuple[Contest, ...] = ()
    seconds_per_trial: float
    seconds_by_method: dict[str, float] = Field(default_factory=dict)

    @property
    def original(self) -> str:
        """The headline score, against the label of the unedited image."""
        return f"{self.headline.removesuffix(SHIFTED)}{ORIGINAL}"

    @property
    def chosen_arm(self) -> ArmRecord:
        """The chosen edit on the test items."""
        chosen = (self.chosen.method, EDIT, self.chosen.strength)
        for arm in self.arms:
            if (arm.method, arm.control, arm.strength) == chosen:
                return arm
        raise ValueError("the chosen edit is not among the arms")

    @model_validator(mode="after")
    def _hold_together(self) -> Summary:
        for arm in self.arms:
            for name in (self.headline, self.original, DAMAGE, AREA_RATIO):
                if name not in arm.scores:
                    raise ValueError(f"an arm has no score {name}")
        if self.chosen_arm.gains is None:
            raise ValueError("the chosen edit has no gains")
        return self

    def text(self) -> str:
        """Return the contents of ``summary.json``."""
        return json.dumps(self.model_dump(by_alias=True, exclude_none=True), indent=1) + "\n"


def task_folder(run: Path, name: str) -> Path:
    """Return the folder of an experiment; its name is the task's, or that of ``Plan.name``."""
    return run / FOLDER / name


def write_record(record: Record, path: Path) -> None:
    """Write a record atomically. Raises UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            # pydantic's own JSON would write NaN as null, which is no number when it is read.
            partial.write_text(
                json.dumps(record.model_dump(by_alias=True), indent=1) + "\n", encoding="utf-8"
            )
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); mend it and run again: nothing is lost"
        ) from error


def read_summary(run: Path, name: str) -> Summary | None:
    """Read an experiment's summary; None if there is none, or only one of an earlier version.

    Raises UserError when it is damaged, or when a later version wrote it.
    """
    path = task_folder(run, name) / SUMMARY
    if not path.is_file():
        return None
    try:
        return read_record(Summary, path)
    except (OSError, ValueError, UserError) as error:
        if isinstance(error, OtherVersion) and not error.is_later:
            return None
        state = "cannot be read" if isinstance(error, OtherVersion) else "is damaged"
        what = remedy(error, f"repeat: python -m bench intervene {run}")
        raise UserError(f"{path} {state} ({error}); {what}") from error
