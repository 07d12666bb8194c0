"""The stages of a run: accumulate moments, fit probes, tune thresholds, score test images.

A stage makes the shards that are missing, and the next stages read them from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from bench.measure import available_bytes, release_memory
from bench.runs.checkpoints import Checkpoints, Work
from bench.runs.filmstrips import image_steps, strip_tensors
from bench.runs.learning_curves import Row, learning_rows
from bench.runs.results import FOREGROUND_AREA
from bench.runs.shard_keys import COSTS, Section, Stage
from bench.runs.write import ScoredImages
from bench.study import Study
from datasets.splits import Block, count_items, grouped
from engines.host_copy import to_host
from extract.networks import TRAINED
from extract.stream import BlockOutput, RecordedModel
from probes.accumulate import Accumulator
from probes.probe_set import STANDARDISED, ProbeSet, probes_of, tensors_of, united
from probes.readout import Groups, Readout, grouped_probes
from probes.shared_eigenbases import KeptEigenbases, Sharing, no_sharing
from probes.solve import mean_maps, position_sites, solve_position, solve_sites
from probes.statistics import Site, SufficientStatistics, Total, at_sites, sums_of_tensors

_KEPT_SHARE = 8
"""The draft's eigenbases may take one part in so many of the free memory."""

Permutations = Sequence[Sequence[int]]
Opened = Callable[[], RecordedModel]
"""Opens the engines when the first block has to be generated, and returns the recorded model."""


def sum_block(
    study: Study, recorded: RecordedModel, block: Block, permutations: Permutations
) -> tuple[SufficientStatistics, BlockOutput]:
    """Generate a training block; return the sums that probes are fitted from."""
    accumulator = Accumulator(study.tasks, permutations, study.device)
    steps = study.config.probed_steps
    output, _ = study.stream(recorded.fitted, block.items, [accumulator], steps)
    return accumulator.sums(), output


def sweep_block(
    study: Study, recorded: RecordedModel, block: Block, permutations: Permutations, draft: ProbeSet
) -> tuple[SufficientStatistics, dict[str, Tensor], BlockOutput]:
    """Generate a block of the last fold; return its sums and Dice at every candidate threshold."""
    accumulator = Accumulator(study.tasks, permutations, study.device)
    readout = Readout(draft, {name: study.tasks[name] for name in draft.probes}, study.device)
    steps = study.config.probed_steps
    output, _ = study.stream(recorded.fitted, block.items, [accumulator, readout], steps)
    return accumulator.sums(), readout.sweep(permutations), output


def score_block(
    study: Study,
    recorded: RecordedModel,
    block: Block,
    probe_set: ProbeSet,
    strips: bool = False,
    groups: Groups | None = None,
) -> tuple[dict[str, Tensor], BlockOutput]:
    """Generate a test block; return every metric of every cell, object sizes, and strips.

    ``groups`` are those of the probe set, which all blocks share.
    """
    readout = Readout(probe_set, study.tasks, study.device, groups)
    noisy = image_steps(study) if strips else ()
    steps = study.config.probed_steps
    output, labels = study.stream(recorded, block.items, [readout], steps, noisy)
    tensors = Section.SCORES.put(readout.scores()) | {FOREGROUND_AREA: readout.foreground}
    if strips:
        readout.predictions = to_host(readout.predictions)
        tensors |= Section.STRIP.put(strip_tensors(study, probe_set, readout, output, labels))
    return tensors, output


def accumulate(study: Study, opened: Opened, checkpoints: Checkpoints) -> None:
    """Generate the training images of all folds but the last and store their sums."""

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        total, costs = Total(), []
        for block in blocks:
            sums, output = sum_block(study, opened(), block, block.permutations(study.draws))
            total.add(sums)
            costs.append(_counted(checkpoints, block, output))
        return total.sums.tensors() | {COSTS: torch.cat(costs)}

    folds = [_fold(study, fold) for fold in range(study.folds - 1)]
    _make(study, checkpoints, Stage.TRAINING, folds, make)


def sweep_thresholds(
    study: Study, opened: Opened, checkpoints: Checkpoints, draft: ProbeSet
) -> None:
    """Generate the last fold; store its sums and the Dice of draft probes at every threshold."""

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        total, costs, sweeps = Total(), [], []
        for block in blocks:
            permutations = block.permutations(study.draws)
            sums, sweep, output = sweep_block(study, opened(), block, permutations, draft)
            total.add(sums)
            sweeps.append(sweep)
            costs.append(_counted(checkpoints, block, output))
        dice = {name: _sum(sweep[name] for sweep in sweeps) for name in draft.probes}
        return total.sums.tensors() | Section.SWEEP.put(dice) | {COSTS: torch.cat(costs)}

    _make(study, checkpoints, Stage.LAST_FOLD, [_fold(study, study.folds - 1)], make)


def score(study: Study, opened: Opened, checkpoints: Checkpoints, probe_set: ProbeSet) -> None:
    """Generate the test images; store every metric of every cell, object sizes, and strips."""

    @cache
    def groups() -> Groups:
        return grouped_probes(probe_set, study.tasks, study.device)

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        costs, parts = [], []
        for block in blocks:
            strips = block.index == 0
            tensors, output = score_block(study, opened(), block, probe_set, strips, groups())
            parts.append(tensors)
            costs.append(_counted(checkpoints, block, output))
        # Strips are of the first block alone.
        per_image = [key for key in parts[0] if not Section.STRIP.holds(key)]
        joined = {key: torch.cat([part[key] for part in parts], dim=-1) for key in per_image}
        return parts[0] | joined | {COSTS: torch.cat(costs)}

    _make(study, checkpoints, Stage.TEST, [study.test], make)


def kept_eigenbases(study: Study) -> KeptEigenbases:
    """Return what keeps the draft's eigenbases while the last fold is generated."""
    return KeptEigenbases(tuple(range(study.folds - 1)), available_bytes() // _KEPT_SHARE)


def fit(
    study: Study,
    checkpoints: Checkpoints,
    stage: Stage,
    folds: int,
    tasks: Sequence[str],
    sharing: Sharing = no_sharing,
) -> ProbeSet:
    """Fit all probes of the tasks to the first folds, and the trained network's to permuted labels.

    They are solved site by site, so that the sums of only one site are in memory. ``sharing``
    decomposes the features' scatters.
    """
    if not tasks:
        return ProbeSet({}, {})
    bare = _stored_sums(study, checkpoints, folds, ())

    def of_activations(site: Site) -> dict[str, Tensor]:
        steps, sums = study.config.probed_steps, _stored_sums(study, checkpoints, folds, [site])
        solved = solve_sites(
            sums,
            tasks,
            steps,
            {TRAINED},
            study.threads,
            device=study.device,
            sharing=sharing,
            standardised=STANDARDISED in study.config.baselines,
        )
        return tensors_of(solved)

    def of_position(site: Site) -> dict[str, Tensor]:
        sums = _stored_sums(study, checkpoints, folds, [site])
        return tensors_of(solve_position(sums, tasks, {TRAINED}, study.device))

    release_memory()
    makes = [partial(of_activations, site) for site in bare[0].shapes]
    if not all(bare[0].is_of_images(name) for name in tasks):
        makes += [partial(of_position, site) for site in position_sites(bare[0], {TRAINED})]
    works = [Work(stage.shard(number), make) for number, make in enumerate(makes)]
    solved = checkpoints.shared(stage, works)
    return ProbeSet(
        united((probes_of(part, tasks) for part in solved), tasks), mean_maps(bare, tasks)
    )


def learning_curves(study: Study, checkpoints: Checkpoints, probe_set: ProbeSet) -> Iterator[Row]:
    """Return the rows of ``learning.csv``."""
    return learning_rows(
        study, probe_set, lambda site: _stored_sums(study, checkpoints, study.folds, [site])
    )


def stored_sweep(study: Study, checkpoints: Checkpoints, draft: ProbeSet) -> dict[str, Tensor]:
    """Read the Dice of draft probes at every candidate threshold, summed over the last fold."""
    sweeps = [
        Section.SWEEP.take(checkpoints.shards.read(name, Section.SWEEP.holds))
        for name in _names(study, _fold(study, study.folds - 1))
    ]
    return {name: _sum(sweep[name] for sweep in sweeps) for name in draft.probes}


def stored_scores(study: Study, checkpoints: Checkpoints) -> ScoredImages:
    """Read the scores of all test images, object sizes, and strips."""
    scores: dict[str, Tensor] = {}
    strips: dict[str, Tensor] = {}
    areas: list[Tensor] = []
    done, images = 0, count_items(study.test)
    for name in _names(study, study.test):
        shard = checkpoints.shards.read(name)
        areas.append(shard[FOREGROUND_AREA])
        strips |= Section.STRIP.take(shard)
        for task, part in Section.SCORES.take(shard).items():
            # Joined in place: the scores of all shards at once would take twice the memory.
            table = scores.setdefault(task, torch.empty(*part.shape[:2], images, dtype=part.dtype))
            table[..., done : done + part.shape[-1]] = part
        done += len(shard[FOREGROUND_AREA])
    return ScoredImages({name: scores[name] for name in study.tasks}, torch.cat(areas), strips)


def _stored_sums(
    study: Study, checkpoints: Checkpoints, folds: int, sites: Sequence[Site]
) -> list[SufficientStatistics]:
    """Read the sums of the first folds, with the moments of some sites only."""
    totals = []
    for fold in range(folds):
        total = Total()
        for name in _names(study, _fold(study, fold)):
            total.add(sums_of_tensors(checkpoints.shards.read(name, at_sites(sites))))
        totals.append(total.sums)
    return totals


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(0)


def _fold(study: Study, fold: int) -> list[Block]:
    return [block for block in study.train if block.fold == fold]


def _names(study: Study, blocks: Sequence[Block]) -> list[str]:
    """Return the names of the shards that store blocks of one stage."""
    return [_name(group) for group in grouped(blocks, study.config.shard)]


def _make(
    study: Study,
    checkpoints: Checkpoints,
    stage: Stage,
    stretches: Sequence[Sequence[Block]],
    make: Callable[[Sequence[Block]], dict[str, Tensor]],
) -> None:
    """Make the shards of a stage; each is a group of blocks of one stretch."""
    groups = [group for blocks in stretches for group in grouped(blocks, study.config.shard)]

    def on_cpu(group: Sequence[Block]) -> dict[str, Tensor]:
        return to_host(make(group))

    works = [Work(_name(group), partial(on_cpu, group), count_items(group)) for group in groups]
    checkpoints.make(stage, works)


def _counted(checkpoints: Checkpoints, block: Block, output: BlockOutput) -> Tensor:
    """Count a block's items as generated; return the clock readings of its calls."""
    checkpoints.progress.update(len(block.items))
    return output.cost_table()


def _name(group: Sequence[Block]) -> str:
    first = group[0]
    stage = f"fold-{first.fold}" if first.split == "train" else first.split
    return f"{stage}-{first.index:04d}-{group[-1].index:04d}"
