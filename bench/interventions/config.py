"""The options of an intervention experiment: one frozen record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.config import nearest
from bench.errors import UserError
from bench.registry import plugin, plugins

if TYPE_CHECKING:
    from bench.runs.results import Results

STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
WEAK_STRENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""For tasks whose edits go into all layers, where the changes of sixteen layers add up."""
LATE_FROM = 2 / 3
"""Share of the sampler's steps after which the layout is settled: step 10 of the paper's 15."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of ``python -m bench intervene``; empty tuples stand for the task's defaults.

    Steps are counted from 1.
    """

    task: str = "saliency"
    methods: tuple[str, ...] = ()
    """Empty for all."""
    strengths: tuple[float, ...] = ()
    controls: tuple[str, ...] | None = None
    """None for all. ``random`` is run at every strength, the others at each method's best one."""
    layers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    late_steps: tuple[int, ...] = ()
    items: int = 100
    """Test items."""
    shifts: int = 5
    """Per item."""
    choose_items: int = 20
    """Training items on which method and strength are chosen."""
    batch: int = 30
    """Trials generated together."""

    def __post_init__(self) -> None:
        """Check each option by itself. Raises UserError."""
        from bench.interventions.arms import CONTROLS
        from probes.edit import METHODS

        for name, least in {"items": 2, "shifts": 1, "choose_items": 0, "batch": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.choose_items == 1:
            raise UserError(
                "choose_items must be at least 2, or 0 to choose on the test items, not 1"
            )
        for kind, names, choices in (
            ("method", self.methods, tuple(METHODS)),
            ("control", self.controls or (), CONTROLS),
        ):
            for name in names:
                if name not in choices:
                    raise UserError(f"there is no {kind} {name!r}{nearest(name, choices)}")
        if not all(0 < strength < float("inf") for strength in self.strengths):
            raise UserError("strengths must be numbers above zero, such as 1,2,4")

    @property
    def items_per_batch(self) -> int:
        """Items generated together; all shifts of an item are in the same batch."""
        return max(1, self.batch // self.shifts)


def refuse_run(results: Results, task: str) -> None:
    """Raise UserError for runs whose images or probes cannot serve, and for image-level tasks."""
    if results.config.source == "rendered":
        raise UserError(
            f"{results.path} is of rendered images, which no edit can change; "
            "give a run with --source generated"
        )
    if results.config.width is not None:
        raise UserError(
            f"the probes of {results.path} read layers projected to {results.config.width} "
            "channels, and edits need all channels; give a run without --width"
        )
    if plugin("task", task).per_image:
        maps = ", ".join(name for name in plugins("task") if not plugin("task", name).per_image)
        raise UserError(
            f"{task} is one label of a whole image, which cannot be moved; "
            f"give --task one of {maps}"
        )


def completed(plan: Plan, layers: Sequence[str], steps: Sequence[int], sampler_steps: int) -> Plan:
    """Fill in the defaults of a plan for a run's layers, steps (from 1) and sampler length.

    Raises UserError for a layer or a step that the run has not probed.
    """
    from bench.interventions.arms import CONTROLS, LATE
    from extract.taps import decoding_layers, fits
    from probes.edit import METHODS

    task = plugin("task", plan.task)
    for name in plan.layers:
        if not any(fits(layer, name) for layer in layers):
            raise UserError(f"the run has no probes of layer {name!r}; it has {', '.join(layers)}")
    if plan.layers:
        chosen = tuple(layer for layer in layers if any(fits(layer, x) for x in plan.layers))
    else:
        chosen = tuple(layers) if task.edits_all_layers else decoding_layers(layers)
    if not chosen:
        raise UserError(
            f"the run has no probes of the decoder, only of {', '.join(layers)}; "
            "name some with --layers"
        )
    edited = plan.steps or tuple(range(1, task.last_edited_step + 1))
    settled = range(round(LATE_FROM * sampler_steps) + 1, sampler_steps + 1)
    late = plan.late_steps or tuple(
        step for step in settled if step in steps and step not in edited
    )
    for step in (*edited, *late):
        if step not in steps:
            raise UserError(
                f"the run has no probes of step {step}; it has {', '.join(map(str, steps))}: "
                "choose others with --steps"
            )
    controls = CONTROLS if plan.controls is None else plan.controls
    return replace(
        plan,
        methods=plan.methods or tuple(METHODS),
        strengths=plan.strengths or (WEAK_STRENGTHS if task.edits_all_layers else STRENGTHS),
        controls=tuple(name for name in controls if name != LATE or late),
        layers=chosen,
        steps=tuple(sorted(set(edited))),
        late_steps=tuple(sorted(set(late))),
    )
