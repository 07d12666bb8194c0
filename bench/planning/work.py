"""Work of a run besides its networks, counted from shapes: sums, eigenproblems and scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.planning.sizes import site_shapes, target_widths
from bench.runs.learning_curves import curves_of
from bench.study import Study
from datasets.grid import Grid
from datasets.splits import BLOCK, count_items
from extract.networks import DECODED, DECODED_LAYERS, TRAINED
from extract.stream import RecordedModel
from probes.position import position_columns
from probes.probe_set import STANDARDISED
from probes.statistics import Shape, Site
from probes.task import Task


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of a run; the baseline ``vae`` is left out, as in its sizes."""

    summed: Mapping[int, int]
    """Columns of the sums (channels, position, targets) -> tokens summed."""
    read: Mapping[int, int]
    """Channels -> tokens that all probes of a site and step are applied to."""
    problems: Mapping[int, int]
    """Features -> symmetric eigenproblems."""
    targets: Mapping[int, int]
    """Features -> columns of targets that probes are solved for, over all eigenproblems."""
    scored: Mapping[str, int]
    """Task -> cells x images x tokens that are scored."""
    target_pixels: Mapping[str, int]
    """Task -> pixels of targets, whose ranks are sorted once for every image."""
    swept: int
    """Cells x images x tokens of the last fold, at all candidate thresholds."""
    intervals: int
    """Cells x metrics x images of the bootstrap."""
    labelled_pixels: int
    """Pixels that the labeler reads; none where labels are exact."""
    block_values: int
    """Values of a block's activations that are kept until its labels are known, after a
    projection."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Tasks of one kind, and their columns of targets."""

    of_images: bool
    tasks: tuple[str, ...]
    true: int
    all_draws: int

    def problem_columns(self, selective: bool) -> int:
        """Targets of a site's fits with and without position."""
        return (self.all_draws if selective else self.true) + (0 if self.of_images else self.true)


def stage_work_of(study: Study, recorded: RecordedModel, decodings: int) -> Work:
    """Count the work of every stage; no weights are needed.

    ``decodings`` are those for labels and baselines.
    """
    config = study.config
    steps, folds = len(config.probed_steps), study.folds
    train, test = count_items(study.train), count_items(study.test)
    last = count_items([block for block in study.train if block.fold == folds - 1])
    sites = {
        site: _projected(shape, config.width)
        for site, shape in site_shapes(study, recorded).items()
    }
    own = [shape.channels for (network, _), shape in sites.items() if network == TRAINED]
    narrowest = min(own, default=0)
    widths = target_widths(study)
    every = list(_kinds(study.tasks, widths, study.draws))
    draft = list(
        _kinds(
            {name: task for name, task in study.tasks.items() if task.thresholded},
            widths,
            study.draws,
        )
    )
    position = position_columns(Grid(1, 1)).shape[1]
    standardised = STANDARDISED in config.baselines
    summed: Counter[int] = Counter()
    read: Counter[int] = Counter()
    problems: Counter[int] = Counter()
    targets: Counter[int] = Counter()
    kept = 0
    read_images = test + (last if draft else 0)
    for (network, _), shape in sites.items():
        tokens, channels = steps * shape.grid.tokens, shape.channels
        read[channels] += read_images * tokens
        kept += tokens * channels
        selective = network == TRAINED
        others = [narrowest] if selective and channels > narrowest else []
        others += [channels] if selective and standardised else []
        for kind in every:
            if not kind.of_images:
                summed[channels + position + kind.all_draws] += train * tokens
        for kinds, first, second in ((draft, folds, folds), (every, folds + 1, folds)):
            for kind in kinds:
                # The final fit takes one eigenbasis of the draft, where there is a draft.
                has_draft = any(other.of_images == kind.of_images for other in draft)
                count = second if has_draft else first
                problems[channels] += steps * count
                targets[channels] += steps * first * kind.problem_columns(selective)
                for width in others:
                    problems[width] += steps * count
                    targets[width] += steps * first * kind.true
    grids = {shape.grid for (network, _), shape in sites.items() if network == TRAINED}
    for kinds, count in ((draft, folds), (every, folds + 1)):
        for kind in kinds:
            if not kind.of_images:
                problems[position] += len(grids) * count
                targets[position] += len(grids) * count * kind.true
    curves = list(curves_of(study))
    # Which layers are the best is not known: the widest stands for all, and no two curves of
    # different tasks share a layer.
    points = folds * (folds - 1)
    if own and points:
        problems[max(own)] += points * len({(task, step) for task, step, _ in curves})
        targets[max(own)] += points * sum(widths[task] for task, _, _ in curves)
    cells = {name: _cells(study, sites, task, narrowest) for name, task in study.tasks.items()}
    pixels = study.components.image_size[0] * study.components.image_size[1]
    return Work(
        summed=dict(summed),
        read=dict(read),
        problems=dict(problems),
        targets=dict(targets),
        scored={name: test * _tokens(cells[name]) for name in study.tasks},
        target_pixels={
            name: 0 if task.per_image else test * pixels for name, task in study.tasks.items()
        },
        swept=last
        * sum(
            _tokens(_fitted(study, sites, study.tasks[name], narrowest))
            for kind in draft
            for name in kind.tasks
        ),
        intervals=test
        * sum(sum(cells[name].values()) * len(task.metrics) for name, task in study.tasks.items()),
        labelled_pixels=0 if config.source == "rendered" else decodings * pixels,
        block_values=BLOCK * kept,
    )


def _projected(shape: Shape, width: int | None) -> Shape:
    return shape if width is None else Shape(shape.grid, min(shape.channels, width))


def _kinds(tasks: Mapping[str, Task], widths: Mapping[str, int], draws: int) -> Iterator[_Columns]:
    """Tasks of maps and tasks of whole images, where there are any: each kind has its own fits."""
    for of_images in (False, True):
        names = tuple(name for name, task in tasks.items() if task.per_image is of_images)
        true = sum(widths[name] for name in names)
        if names:
            yield _Columns(of_images, names, true, true * (1 + draws))


def _fitted(study: Study, sites: Mapping[Site, Shape], task: Task, narrowest: int) -> Counter[Grid]:
    """Grid -> cells of a task that probes are fitted for."""
    counts: Counter[Grid] = Counter()
    own = set()
    standardised = STANDARDISED in study.config.baselines
    for (network, _), shape in sites.items():
        grid = Grid(1, 1) if task.per_image else shape.grid
        probes = 1 if task.per_image else 2
        if network == TRAINED:
            own.add(grid)
            probes += study.draws + (shape.channels > narrowest) + standardised
        counts[grid] += probes * len(study.config.probed_steps)
    if not task.per_image:
        # Position alone.
        counts.update(own)
    return counts


def _cells(study: Study, sites: Mapping[Site, Shape], task: Task, narrowest: int) -> Counter[Grid]:
    """Grid -> all cells of a task that are scored."""
    counts = _fitted(study, sites, task, narrowest)
    # The ceiling of every grid, and the mean map at the image's resolution.
    counts.update(list(counts))
    whole = Grid(1, 1) if task.per_image else Grid(*study.components.image_size)
    counts[whole] += 1
    if task.thresholded:
        counts[min(counts)] += 1
    if DECODED in study.config.baselines and not task.per_image:
        counts[whole] += len(DECODED_LAYERS) * len(study.config.probed_steps)
    return counts


def _tokens(cells: Mapping[Grid, int]) -> int:
    return sum(grid.tokens * count for grid, count in cells.items())
