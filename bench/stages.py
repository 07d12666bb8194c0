"""The stages of a run: sum over training images, solve, sweep thresholds, score test images.

A stage makes the shards that are not there yet, and the next ones read them from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench.measure import give_back_memory
from bench.runs.checkpoints import COSTS, Checkpoints, Work
from bench.runs.filmstrips import strip_steps, strip_tensors
from bench.runs.results import FOREGROUND_AREA
from bench.study import Study
from datasets.splits import Block, count_items, grouped
from extract.networks import TRAINED
from extract.stream import BlockOutput, RecordedModel
from probes.accumulate import Accumulator
from probes.probe_set import ProbeSet, probes_of, tensors_of, united
from probes.readout import Readout
from probes.solve import mean_maps, position_sites, solve_position, solve_sites
from probes.statistics import Site, SufficientStatistics, Total, at_sites, sums_of_tensors

_SWEEP = "sweep/"


Permutations = Sequence[Sequence[int]]
Opened = Callable[[], RecordedModel]
"""What is watched, its engines opened when the first block has to be generated, and no sooner."""


def sum_block(
    study: Study, recorded: RecordedModel, block: Block, permutations: Permutations
) -> tuple[SufficientStatistics, BlockOutput]:
    """Generate a training block; the sums that probes are solved from."""
    accumulator = Accumulator(study.tasks, permutations, study.device)
    generated, _ = study.stream(
        recorded.fitted, block.items, [accumulator], study.config.probed_steps
    )
    return accumulator.sums(), generated


def sweep_block(
    study: Study, recorded: RecordedModel, block: Block, permutations: Permutations, draft: ProbeSet
) -> tuple[SufficientStatistics, dict[str, Tensor], BlockOutput]:
    """Generate a block of the last fold; its sums, and the draft probes' Dice on it at every candidate threshold."""
    accumulator = Accumulator(study.tasks, permutations, study.device)
    readout = Readout(draft, {name: study.tasks[name] for name in draft.probes}, study.device)
    generated, _ = study.stream(
        recorded.fitted, block.items, [accumulator, readout], study.config.probed_steps
    )
    return accumulator.sums(), readout.sweep(permutations), generated


def score_block(
    study: Study, recorded: RecordedModel, block: Block, probe_set: ProbeSet, strips: bool = False
) -> tuple[dict[str, Tensor], BlockOutput]:
    """Generate a test block; every metric of every cell and the salient share of each image, and the report's strips."""
    readout = Readout(probe_set, study.tasks, study.device)
    noisy = strip_steps(study) if strips else ()
    generated, labels = study.stream(
        recorded, block.items, [readout], study.config.probed_steps, noisy
    )
    tensors = {f"scores/{name}": table for name, table in readout.scores().items()}
    tensors[FOREGROUND_AREA] = readout.foreground
    return tensors | (
        strip_tensors(study, probe_set, readout, generated, labels) if strips else {}
    ), generated


def accumulate(study: Study, opened: Opened, checkpoints: Checkpoints) -> None:
    """Generate the training images of all folds but the last and store their sums."""

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        total, costs = Total(), []
        for block in blocks:
            sums, generated = sum_block(study, opened(), block, block.permutations(study.draws))
            total.add(sums)
            costs.append(_noted(checkpoints, block, generated))
        return total.sums.tensors() | {COSTS: torch.cat(costs)}

    _make(
        study,
        checkpoints,
        "the training images",
        [_fold(study, fold) for fold in range(study.folds - 1)],
        make,
    )


def sweep_thresholds(
    study: Study, opened: Opened, checkpoints: Checkpoints, draft: ProbeSet
) -> None:
    """Generate the last fold; store its sums, and the draft probes' Dice on it at every candidate threshold."""

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        total, costs, sweeps = Total(), [], []
        for block in blocks:
            sums, swept, generated = sweep_block(
                study, opened(), block, block.permutations(study.draws), draft
            )
            total.add(sums)
            sweeps.append(swept)
            costs.append(_noted(checkpoints, block, generated))
        tables = {
            f"{_SWEEP}{name}": torch.stack([sweep[name] for sweep in sweeps]).sum(0)
            for name in draft.probes
        }
        return total.sums.tensors() | tables | {COSTS: torch.cat(costs)}

    _make(study, checkpoints, "the last fold", [_fold(study, study.folds - 1)], make)


def score(study: Study, opened: Opened, checkpoints: Checkpoints, probe_set: ProbeSet) -> None:
    """Generate the test images; store every metric of every cell for each, and the report's strips.

    Among the scores lies the share of every test image that the salient object covers.
    """

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        costs, parts = [], []
        for block in blocks:
            tensors, generated = score_block(
                study, opened(), block, probe_set, strips=block.index == 0
            )
            parts.append(tensors)
            costs.append(_noted(checkpoints, block, generated))
        # Strips are of the first block alone.
        names = [*(f"scores/{name}" for name in study.tasks), FOREGROUND_AREA]
        joined = {name: torch.cat([part[name] for part in parts], dim=-1) for name in names}
        return parts[0] | joined | {COSTS: torch.cat(costs)}

    _make(study, checkpoints, "the test images", [study.test], make)


def solve(
    study: Study, checkpoints: Checkpoints, stage: str, folds: int, tasks: Sequence[str]
) -> ProbeSet:
    """All probes of the tasks from the first folds; the trained network also gets those of permuted labels.

    They are solved place by place: while they are, the sums of one place are in memory, however many there are.
    """
    if not tasks:
        return ProbeSet({}, {})
    bare = stored_sums(study, checkpoints, folds, ())

    def at(site: Site) -> dict[str, Tensor]:
        steps, sums = study.config.probed_steps, stored_sums(study, checkpoints, folds, [site])
        return tensors_of(
            solve_sites(sums, tasks, steps, {TRAINED}, study.threads, device=study.device)
        )

    def of_position(site: Site) -> dict[str, Tensor]:
        return tensors_of(
            solve_position(
                stored_sums(study, checkpoints, folds, [site]), tasks, {TRAINED}, study.device
            )
        )

    give_back_memory()
    makes = [partial(at, site) for site in bare[0].shapes]
    if not all(bare[0].is_of_images(name) for name in tasks):
        makes += [partial(of_position, site) for site in position_sites(bare[0], {TRAINED})]
    works = [Work(f"{stage}-{number:04d}", make) for number, make in enumerate(makes)]
    solved = checkpoints.shared(f"the {stage} probes", works)
    return ProbeSet(
        united((probes_of(part, tasks) for part in solved), tasks), mean_maps(bare, tasks)
    )


def stored_sums(
    study: Study, checkpoints: Checkpoints, folds: int, sites: Sequence[Site]
) -> list[SufficientStatistics]:
    """The sums of the first folds, from disk; their moments only at some places."""
    totals = []
    for fold in range(folds):
        total = Total()
        for name in _names(study, _fold(study, fold)):
            total.add(sums_of_tensors(checkpoints.shards.read(name, at_sites(sites))))
        totals.append(total.sums)
    return totals


def stored_sweep(study: Study, checkpoints: Checkpoints, draft: ProbeSet) -> dict[str, Tensor]:
    """The draft probes' Dice at every candidate threshold, added up over the last fold, from disk."""
    names = _names(study, _fold(study, study.folds - 1))
    pieces = [checkpoints.shards.read(name, lambda key: key.startswith(_SWEEP)) for name in names]
    return {
        name: torch.stack([piece[f"{_SWEEP}{name}"] for piece in pieces]).sum(0)
        for name in draft.probes
    }


def stored_scores(
    study: Study, checkpoints: Checkpoints
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Per task, every metric of every cell for every test image (cells x metrics x images), and the strips."""
    scores: dict[str, Tensor] = {}
    strips: dict[str, Tensor] = {}
    areas: list[Tensor] = []
    done, images = 0, count_items(study.test)
    for name in _names(study, study.test):
        piece = checkpoints.shards.read(name)
        areas.append(piece[FOREGROUND_AREA])
        strips |= {key: value for key, value in piece.items() if key.startswith("strip/")}
        for task in study.tasks:
            part = piece[f"scores/{task}"]
            table = scores.setdefault(task, torch.empty(*part.shape[:2], images, dtype=part.dtype))
            table[..., done : done + part.shape[-1]] = part
        done += part.shape[-1]
    return scores | {FOREGROUND_AREA: torch.cat(areas)}, strips


def _fold(study: Study, fold: int) -> list[Block]:
    return [block for block in study.train if block.fold == fold]


def _names(study: Study, blocks: Sequence[Block]) -> list[str]:
    """The shards that blocks of one stage are stored in."""
    return [_name(group) for group in grouped(blocks, study.config.shard)]


def _make(
    study: Study,
    checkpoints: Checkpoints,
    stage: str,
    stretches: Sequence[Sequence[Block]],
    make: Callable[[Sequence[Block]], dict[str, Tensor]],
) -> None:
    """Make the shards of a stage: every stretch of blocks is cut into groups, and each is a shard."""
    groups = [group for blocks in stretches for group in grouped(blocks, study.config.shard)]
    checkpoints.make(
        stage, [Work(_name(group), partial(make, group), count_items(group)) for group in groups]
    )


def _noted(checkpoints: Checkpoints, block: Block, generated: BlockOutput) -> Tensor:
    """Count a block's items as generated; the clock readings of its calls."""
    checkpoints.progress.update(len(block.items))
    return generated.cost_table()


def _name(group: Sequence[Block]) -> str:
    first = group[0]
    stage = f"fold-{first.fold}" if first.split == "train" else first.split
    return f"{stage}-{first.index:04d}-{group[-1].index:04d}"
