"""The stages of a run: sum over training pictures, solve, sweep thresholds, score test pictures.

A stage makes the shards that are not there yet, and the next ones read them from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench.measure import give_back_memory
from bench.runs.checkpoints import COSTS, Maker, Work
from bench.runs.filmstrips import strip_steps, strip_tensors
from bench.runs.results import FOREGROUND_AREA
from bench.study import Study
from datasets.splits import Block, count_items, grouped
from extract.networks import TRAINED
from extract.stream import Painted, Subject
from probes.accumulate import Gather, Place, Sums, Total, in_places, sums_of_tensors
from probes.probe_set import Bank, probes_of, tensors_of, united
from probes.readout import Readout
from probes.solve import mean_maps, position_places, solve_places, solve_position

_SWEEP = "sweep/"


Permutations = Sequence[Sequence[int]]
Opened = Callable[[], Subject]
"""What is watched, its engines opened when the first block has to be painted, and no sooner."""


def sum_block(study: Study, subject: Subject, block: Block, permutations: Permutations) -> tuple[Sums, Painted]:
    """Paint a training block; the sums that probes are solved from."""
    gather = Gather(study.tasks, permutations, study.device)
    painted, _ = study.stream(subject.fitted, block.items, [gather], study.config.probed_steps)
    return gather.sums(), painted


def sweep_block(
    study: Study, subject: Subject, block: Block, permutations: Permutations, draft: Bank
) -> tuple[Sums, dict[str, Tensor], Painted]:
    """Paint a block of the last fold; its sums, and the draft probes' Dice on it at every candidate threshold."""
    gather = Gather(study.tasks, permutations, study.device)
    readout = Readout(draft, {name: study.tasks[name] for name in draft.probes}, study.device)
    painted, _ = study.stream(subject.fitted, block.items, [gather, readout], study.config.probed_steps)
    return gather.sums(), readout.sweep(permutations), painted


def score_block(
    study: Study, subject: Subject, block: Block, bank: Bank, strips: bool = False
) -> tuple[dict[str, Tensor], Painted]:
    """Paint a test block; every metric of every cell and the salient share of each picture, and the report's strips."""
    readout = Readout(bank, study.tasks, study.device)
    noisy = strip_steps(study) if strips else ()
    painted, labels = study.stream(subject, block.items, [readout], study.config.probed_steps, noisy)
    tensors = {f"scores/{name}": table for name, table in readout.scores().items()}
    tensors[FOREGROUND_AREA] = readout.foreground
    return tensors | (strip_tensors(study, bank, readout, painted, labels) if strips else {}), painted


def accumulate(study: Study, opened: Opened, maker: Maker) -> None:
    """Paint the training pictures of all folds but the last and store their sums."""

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        total, costs = Total(), []
        for block in blocks:
            sums, painted = sum_block(study, opened(), block, block.permutations(study.draws))
            total.add(sums)
            costs.append(_noted(maker, block, painted))
        return total.sums.tensors() | {COSTS: torch.cat(costs)}

    _make(study, maker, "the training pictures", [_fold(study, fold) for fold in range(study.folds - 1)], make)


def sweep_thresholds(study: Study, opened: Opened, maker: Maker, draft: Bank) -> None:
    """Paint the last fold; store its sums, and the draft probes' Dice on it at every candidate threshold."""

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        total, costs, sweeps = Total(), [], []
        for block in blocks:
            sums, swept, painted = sweep_block(study, opened(), block, block.permutations(study.draws), draft)
            total.add(sums)
            sweeps.append(swept)
            costs.append(_noted(maker, block, painted))
        tables = {f"{_SWEEP}{name}": torch.stack([sweep[name] for sweep in sweeps]).sum(0) for name in draft.probes}
        return total.sums.tensors() | tables | {COSTS: torch.cat(costs)}

    _make(study, maker, "the last fold", [_fold(study, study.folds - 1)], make)


def score(study: Study, opened: Opened, maker: Maker, bank: Bank) -> None:
    """Paint the test pictures; store every metric of every cell for each, and the report's strips.

    Among the scores lies the share of every test picture that the salient object covers.
    """

    def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
        costs, parts = [], []
        for block in blocks:
            tensors, painted = score_block(study, opened(), block, bank, strips=block.index == 0)
            parts.append(tensors)
            costs.append(_noted(maker, block, painted))
        # Strips are of the first block alone.
        names = [*(f"scores/{name}" for name in study.tasks), FOREGROUND_AREA]
        joined = {name: torch.cat([part[name] for part in parts], dim=-1) for name in names}
        return parts[0] | joined | {COSTS: torch.cat(costs)}

    _make(study, maker, "the test pictures", [study.test], make)


def solve(study: Study, maker: Maker, stage: str, folds: int, tasks: Sequence[str]) -> Bank:
    """All probes of the tasks from the first folds; the trained network also gets those of permuted labels.

    They are solved place by place: while they are, the sums of one place are in memory, however many there are.
    """
    if not tasks:
        return Bank({}, {})
    bare = stored_sums(study, maker, folds, ())

    def at(place: Place) -> dict[str, Tensor]:
        steps, sums = study.config.probed_steps, stored_sums(study, maker, folds, [place])
        return tensors_of(solve_places(sums, tasks, steps, {TRAINED}, study.threads, device=study.device))

    def of_position(place: Place) -> dict[str, Tensor]:
        return tensors_of(solve_position(stored_sums(study, maker, folds, [place]), tasks, {TRAINED}, study.device))

    give_back_memory()
    makes = [partial(at, place) for place in bare[0].shapes]
    if not all(bare[0].is_of_pictures(name) for name in tasks):
        makes += [partial(of_position, place) for place in position_places(bare[0], {TRAINED})]
    works = [Work(f"{stage}-{number:04d}", make) for number, make in enumerate(makes)]
    solved = maker.shared(f"the {stage} probes", works)
    return Bank(united((probes_of(part, tasks) for part in solved), tasks), mean_maps(bare, tasks))


def stored_sums(study: Study, maker: Maker, folds: int, places: Sequence[Place]) -> list[Sums]:
    """The sums of the first folds, from disk; their moments only at some places."""
    totals = []
    for fold in range(folds):
        total = Total()
        for name in _names(study, _fold(study, fold)):
            total.add(sums_of_tensors(maker.shards.read(name, in_places(places))))
        totals.append(total.sums)
    return totals


def stored_sweep(study: Study, maker: Maker, draft: Bank) -> dict[str, Tensor]:
    """The draft probes' Dice at every candidate threshold, added up over the last fold, from disk."""
    names = _names(study, _fold(study, study.folds - 1))
    pieces = [maker.shards.read(name, lambda key: key.startswith(_SWEEP)) for name in names]
    return {name: torch.stack([piece[f"{_SWEEP}{name}"] for piece in pieces]).sum(0) for name in draft.probes}


def stored_scores(study: Study, maker: Maker) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Per task, every metric of every cell for every test picture (cells x metrics x pictures), and the strips."""
    scores: dict[str, Tensor] = {}
    strips: dict[str, Tensor] = {}
    areas: list[Tensor] = []
    done, pictures = 0, count_items(study.test)
    for name in _names(study, study.test):
        piece = maker.shards.read(name)
        areas.append(piece[FOREGROUND_AREA])
        strips |= {key: value for key, value in piece.items() if key.startswith("strip/")}
        for task in study.tasks:
            part = piece[f"scores/{task}"]
            table = scores.setdefault(task, torch.empty(*part.shape[:2], pictures, dtype=part.dtype))
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
    maker: Maker,
    stage: str,
    stretches: Sequence[Sequence[Block]],
    make: Callable[[Sequence[Block]], dict[str, Tensor]],
) -> None:
    """Make the shards of a stage: every stretch of blocks is cut into groups, and each is a shard."""
    groups = [group for blocks in stretches for group in grouped(blocks, study.config.shard)]
    maker.make(stage, [Work(_name(group), partial(make, group), count_items(group)) for group in groups])


def _noted(maker: Maker, block: Block, painted: Painted) -> Tensor:
    """Count a block's items as painted; the clock readings of its calls."""
    maker.progress.update(len(block.items))
    return painted.cost_table()


def _name(group: Sequence[Block]) -> str:
    first = group[0]
    stage = f"fold-{first.fold}" if first.split == "train" else first.split
    return f"{stage}-{first.index:04d}-{group[-1].index:04d}"
