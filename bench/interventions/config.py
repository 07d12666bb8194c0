"""The options of an intervention experiment: one frozen record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.config import nearest
from bench.errors import UserError
from bench.options.typed import repeated
from bench.registry import plugin

if TYPE_CHECKING:
    from bench.runs.results import Results

STRENGTHS = (4.0, 8.0, 16.0, 32.0, 64.0)
WEAK_STRENGTHS = (0.0125, 0.025, 0.05, 0.1, 0.2)
"""For tasks whose edits go into all layers, where the changes of sixteen layers add up."""
PUBLISHED_STRENGTHS = (1.0,)
"""The paper's procedure has no strength; another value is a multiple of its change."""
CONTROLNET_STRENGTHS = (0.25, 0.5, 1.0)
"""Scales of a ControlNet's outputs; it was trained at 1."""
EXTENSIONS = 2
"""Doublings beyond the largest default strength."""
DAMAGES = (0.05, 0.1)
"""Damages at which methods are compared: mean absolute changes of background pixels, 0 to 1."""
LATE_FROM = 2 / 3
"""Share of the sampler's steps after which the layout is settled: step 10 of the paper's 15."""
DEFAULT_TARGET = "shifted"
TARGETS = (DEFAULT_TARGET, "farther", "nearer", "tilted")
"""What edits aim at (``targets.py``); all but the first are of depth."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of ``python -m bench intervene``; empty tuples stand for the task's defaults.

    Steps are counted from 1.
    """

    task: str = "saliency"
    target: str = DEFAULT_TARGET
    methods: tuple[str, ...] = ()
    """Empty for all."""
    strengths: tuple[float, ...] = ()
    """Of edits by ridge probes."""
    published_strengths: tuple[float, ...] = ()
    controlnet_strengths: tuple[float, ...] = ()
    extend: int | None = None
    """How often a method's largest strength is doubled while its score still rises on the items on
    which it is chosen. None for ``EXTENSIONS``, or none where strengths are given."""
    damages: tuple[float, ...] = DAMAGES
    """Where methods are compared. No edit beyond the last one is chosen, if there are others."""
    controls: tuple[str, ...] | None = None
    """None for all. ``random`` is run at every strength, the others at each method's best one."""
    layers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    late_steps: tuple[int, ...] = ()
    all_steps: tuple[int, ...] = ()
    """Of the sampler: those of a ControlNet."""
    items: int = 100
    """Test items."""
    shifts: int = 5
    """Per item."""
    unfiltered: bool = False
    """Whether shifts may move the object out of the image, as the paper's do."""
    choose_items: int = 20
    """Training items on which method and strength are chosen."""
    batch: int = 30
    """Trials generated together."""
    grids: tuple[tuple[str, tuple[float, ...]], ...] = ()
    """Method -> its own strengths: those that were typed, or that were run where they were
    extended."""

    def __post_init__(self) -> None:
        """Check each option by itself. Raises UserError."""
        from bench.interventions.arms import ALL_METHODS, CONTROLS

        for name, least in {"items": 2, "shifts": 1, "choose_items": 0, "batch": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.choose_items == 1:
            raise UserError(
                "choose_items must be at least 2, or 0 to choose on the test items, not 1"
            )
        if self.extend is not None and not 0 <= self.extend <= 10:
            raise UserError(f"extend must be 0 to 10, not {self.extend}")
        for kind, names, choices in (
            ("method", self.methods, ALL_METHODS),
            ("control", self.controls or (), CONTROLS),
            ("target", (self.target,), TARGETS),
        ):
            for name in names:
                if name not in choices:
                    raise UserError(f"there is no {kind} {name!r}{nearest(name, choices)}")
            if twice := repeated(names):
                raise UserError(f"the {kind} {twice} is named twice; name it once")
        own = {f"strengths of {method}": values for method, values in self.grids}
        for kind in ("strengths", "published_strengths", "controlnet_strengths", "damages"):
            own[kind.replace("_", " ")] = getattr(self, kind)
        for kind, values in own.items():
            if not all(0 < value < float("inf") for value in values):
                raise UserError(f"{kind} must be numbers above zero, such as 1,2,4")
            if value := repeated(values):
                raise UserError(f"{kind} name {value:g} twice; name it once")
        if max(self.damages, default=0.0) >= 1:
            raise UserError(
                f"damages are mean changes of pixels between 0 and 1, such as 0.1; "
                f"{max(self.damages):g} is reached by no image"
            )
        if list(self.damages) != sorted(set(self.damages)) or not self.damages:
            raise UserError("damages must be numbers that rise, such as 0.05,0.1")
        if self.target != DEFAULT_TARGET and self.task != "depth":
            raise UserError(
                f"the target {self.target} is one of depth; give --task depth, or leave it out"
            )
        if self.unfiltered and self.target != DEFAULT_TARGET:
            raise UserError(f"--unfiltered is of shifts, and the target is {self.target}")

    @property
    def name(self) -> str:
        """The name of the experiment's folder: the task, and what is special about its targets."""
        target = () if self.target == DEFAULT_TARGET else (self.target,)
        return "-".join((self.task, *target, *(("unfiltered",) if self.unfiltered else ())))

    @property
    def items_per_batch(self) -> int:
        """Items generated together; all shifts of an item are in the same batch."""
        return max(1, self.batch // self.shifts)

    def strengths_of(self, method: str) -> tuple[float, ...]:
        """Return the strengths at which a method is run."""
        from bench.interventions.arms import CONTROLNET
        from probes.published_edit import PUBLISHED

        if (extended := dict(self.grids).get(method)) is not None:
            return extended
        own = {PUBLISHED: self.published_strengths, CONTROLNET: self.controlnet_strengths}
        return own.get(method, self.strengths)

    def with_grids(self, grids: Mapping[str, tuple[float, ...]]) -> Plan:
        """The same plan with these strengths."""
        return replace(self, grids=tuple(grids.items()))


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
        maps = [name for name in results.tasks if not plugin("task", name).per_image]
        what = (
            f"give --task one of {', '.join(maps)}" if maps else "make a run with --tasks saliency"
        )
        raise UserError(f"{task} is one label of a whole image, which cannot be moved; {what}")


def completed(
    plan: Plan,
    layers: Sequence[str],
    steps: Sequence[int],
    sampler_steps: int,
    controlnet: bool = False,
) -> Plan:
    """Fill in the defaults of a plan for a run's layers, steps (from 1) and sampler length.

    ``controlnet`` tells whether there is one for the model and the task. Raises UserError for a
    layer or a step that the run has not probed.
    """
    from bench.interventions.arms import ALL_METHODS, CONTROLNET, CONTROLS, LATE
    from extract.taps import decoding_layers, fits
    from probes.published_edit import PUBLISHED

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
    if CONTROLNET in plan.methods and not controlnet:
        raise UserError(
            f"there is no ControlNet of this model for {plan.task}; name the folder of one with "
            "--controlnet"
        )
    # The published recipe is for maps of one channel.
    available = [
        name
        for name in ALL_METHODS
        if (controlnet if name == CONTROLNET else name != PUBLISHED or plan.task in PAPERS_TASKS)
    ]
    if PUBLISHED in plan.methods and plan.task not in PAPERS_TASKS:
        raise UserError(
            f"the paper's procedure is for {' and '.join(PAPERS_TASKS)}, not for {plan.task}; "
            f"leave {PUBLISHED} out of --methods"
        )
    methods = plan.methods or tuple(available)
    own = dict(plan.grids) | {PUBLISHED: plan.published_strengths}
    for method, values in (own | {CONTROLNET: plan.controlnet_strengths}).items():
        if values and method not in methods:
            raise UserError(
                f"--strengths names {method}, which is not among the methods "
                f"{', '.join(methods)}; add it to --methods, or leave its strengths out"
            )
    controls = CONTROLS if plan.controls is None else plan.controls
    if LATE in (plan.controls or ()) and not late:
        raise UserError(
            f"the control {LATE} needs probes of late steps that are not edited, and the run has "
            f"steps {', '.join(map(str, steps))}; leave it out of --controls, or make a run that "
            "probes them"
        )
    return replace(
        plan,
        methods=methods,
        strengths=plan.strengths or (WEAK_STRENGTHS if task.edits_all_layers else STRENGTHS),
        published_strengths=plan.published_strengths or PUBLISHED_STRENGTHS,
        controlnet_strengths=plan.controlnet_strengths or CONTROLNET_STRENGTHS,
        extend=(
            (0 if plan.strengths or plan.grids else EXTENSIONS)
            if plan.extend is None
            else plan.extend
        ),
        controls=tuple(name for name in controls if name != LATE or late),
        layers=chosen,
        steps=tuple(sorted(set(edited))),
        late_steps=tuple(sorted(set(late))),
        all_steps=tuple(range(1, sampler_steps + 1)),
        shifts=plan.shifts if plan.target == DEFAULT_TARGET else 1,
    )


PAPERS_TASKS = ("saliency", "depth")
"""The tasks whose probes the paper's recipe fits."""
